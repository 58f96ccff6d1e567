"""Detect, crop, classify: a picture is sent once, and what is cut out of it never leaves the server.

    detect ─ boxes[0:1], boxes[1:2], ... ┐
    picture ─────────────────────────────┴─ crop ─ classify ─ scores

The picture stays on the server as a kept input, each crop takes one row of the boxes, and all tickets are submitted
before the first has run. Write the three models, start a server for them, and run it:

    python client/examples/crops.py --models models
    headrace-server models/detect.xml models/crop.xml models/classify.xml
    python client/examples/crops.py [TARGET]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

import headrace.client as hc

HEIGHT, WIDTH, SIDE, BOXES = 480, 640, 32, 8


async def main(target: str) -> None:
    image, truth = draw()
    async with hc.connect(target) as server, server.stream() as stream:
        frame = await stream.submit(
            "detect", {"image": image}, outputs=["boxes"], keep=["boxes"], keep_inputs=["image"]
        )
        scores = []
        for n in range(BOXES):
            # Row n of the boxes, as [1, 2]; the detector need not have run yet.
            one = {"image": frame["image"], "box": frame["boxes"][n : n + 1]}
            crop = await stream.submit("crop", one, outputs=[], keep=["crop"])
            scores.append(await stream.submit("classify", {"crop": crop.take("crop")}, outputs=["scores"]))

        boxes = (await frame)["boxes"]
        for (top, left), ticket in zip(boxes.tolist(), scores, strict=True):
            stripes = ("horizontal", "vertical")[int((await ticket)["scores"][0].argmax())]
            right = "" if truth[top, left] == stripes else " (wrong)"
            print(f"at {top:3}, {left:3}: {stripes} stripes{right}")
    print(f"{image.nbytes:,} bytes of picture were sent once, for {1 + BOXES} runs that used them")


def draw() -> tuple[npt.NDArray[np.float32], dict[tuple[int, int], str]]:
    """A dark picture with striped tiles, and what is where."""
    random = np.random.default_rng(0)
    image: npt.NDArray[np.float32] = random.random((1, 1, HEIGHT, WIDTH), np.float32) * np.float32(0.1)
    truth: dict[tuple[int, int], str] = {}
    for tile in random.choice(HEIGHT * WIDTH // SIDE**2, BOXES, replace=False).tolist():
        top, left = tile // (WIDTH // SIDE) * SIDE, tile % (WIDTH // SIDE) * SIDE
        truth[top, left] = ("horizontal", "vertical")[tile % 2]
        stripes = np.tile(np.arange(SIDE) // 4 % 2, (SIDE, 1))
        image[0, 0, top : top + SIDE, left : left + SIDE] += stripes if tile % 2 else stripes.T
    return image, truth


def write_models(folder: Path) -> None:
    """Write detect (the brightest tiles), crop (one tile of a picture) and classify (which way it has stripes)."""
    import openvino as ov
    from openvino import opset15 as op

    def named(name: str, node: ov.Node) -> ov.Node:
        node.output(0).set_names({name})
        return node

    def save(name: str, outputs: list[ov.Node], inputs: list[ov.Node]) -> None:
        ov.save_model(ov.Model(outputs, inputs, name), folder / f"{name}.xml")  # creates the folder

    image = named("image", op.parameter([1, 1, HEIGHT, WIDTH], np.float32))
    tiles = op.avg_pool(image, [SIDE, SIDE], [0, 0], [0, 0], [SIDE, SIDE], False)
    brightest = op.topk(op.reshape(tiles, [-1], False), BOXES, 0, "max", "index", "i64").output(1)
    columns = np.int64(WIDTH // SIDE)
    places = [op.unsqueeze(op.divide(brightest, columns), 1), op.unsqueeze(op.floor_mod(brightest, columns), 1)]
    save("detect", [named("boxes", op.multiply(op.concat(places, 1), np.int64(SIDE)))], [image])

    image = named("image", op.parameter([1, 1, HEIGHT, WIDTH], np.float32))
    box = named("box", op.parameter([1, 2], np.int64))
    start = op.reshape(box, [2], False)
    cut = op.slice(image, start, op.add(start, np.int64(SIDE)), np.array([1, 1]), np.array([2, 3]))
    save("crop", [named("crop", op.reshape(cut, [1, 1, SIDE, SIDE], False))], [image, box])

    crop = named("crop", op.parameter([1, 1, SIDE, SIDE], np.float32))
    flat = [op.reduce_mean(crop, np.array([1, axis]), keep_dims=False) for axis in (3, 2)]
    spread = [op.reduce_mean(op.abs(op.subtract(line, np.float32(0.5))), np.array([1]), True) for line in flat]
    save("classify", [named("scores", op.concat(spread, 1))], [crop])


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--models"]:
            write_models(Path(sys.argv[2]))
        else:
            asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
    except hc.HeadraceError as error:
        sys.exit(f"{error.code.name}: {error.message}")
