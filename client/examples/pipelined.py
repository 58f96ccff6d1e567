"""Images through a classifier, many in flight: while some run, the next ones are sent and queued.

The model is ResNet-50 with random weights, from the package `onnx`. Start a server for it and run this:

    pip install onnx
    headrace-server resnet50=$(python -c "import onnx, pathlib; print(next(
        pathlib.Path(onnx.__file__).parent.rglob('light_resnet50.onnx')))")
    python client/examples/pipelined.py [TARGET] [IMAGE.npy...]

An image is uint8[height,width,3], as `np.save("cat.npy", Image.open("cat.jpg").convert("RGB"))` writes it with Pillow.
Without arguments, 32 images of noise are classified.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import headrace.client as hc

IN_FLIGHT = 16
SIZE = 224
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Array = npt.NDArray[Any]


async def main(target: str, files: Sequence[str]) -> None:
    names: deque[str] = deque()

    def inputs() -> Iterator[dict[str, Array]]:
        for name, image in images(files):
            names.append(name)
            yield {"gpu_0/data_0": prepared(image)}

    began, count = time.perf_counter(), 0
    async with hc.connect(target) as server, server.stream() as stream:
        # The source may be endless, such as a camera: at most IN_FLIGHT images are read ahead of the results.
        async for outputs in stream.map("resnet50", inputs(), outputs=["gpu_0/softmax_1"], ahead=IN_FLIGHT):
            show(names.popleft(), outputs["gpu_0/softmax_1"][0])
            count += 1
    took = time.perf_counter() - began
    print(f"{count} images in {took:.2f} s: {count / took:.0f}/s with up to {IN_FLIGHT} in flight")


def show(name: str, probabilities: Array) -> None:
    best = int(probabilities.argmax())
    print(f"{name}: class {best} ({probabilities[best]:.2%})")


def images(files: Sequence[str]) -> Iterator[tuple[str, Array]]:
    for file in files:
        yield file, np.load(file)
    if not files:
        random = np.random.default_rng(0)
        for i in range(32):
            yield f"noise {i}", random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def prepared(image: Array) -> Array:
    """f32[1,3,224,224], as in training: nearest pixels, normalized, channels first."""
    rows, columns = (np.arange(SIZE) * side // SIZE for side in image.shape[:2])
    pixels = (image[rows][:, columns] / 255 - MEAN) / DEVIATION
    return np.asarray(pixels.transpose(2, 0, 1)[None], np.float32)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001", sys.argv[2:]))
    except hc.HeadraceError as error:
        sys.exit(f"{error.code.name}: {error.message}")
