"""Resizes images exactly as the graph of a model would, so that it does not matter which of the two does it."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as opset
from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

GraphAlgorithm = Literal["linear", "cubic", "nearest"]
_ALGORITHMS = {
    "linear": ResizeAlgorithm.RESIZE_LINEAR,
    "cubic": ResizeAlgorithm.RESIZE_CUBIC,
    "nearest": ResizeAlgorithm.RESIZE_NEAREST,
}
MAX_RESIZERS = 16
"""A thread keeps at most as many. Making one takes some 10 ms."""
MAX_KEPT_BYTES = 16 << 20
"""A resizer that has seen a larger image is dropped with its memory."""
Pixels = npt.NDArray[np.uint8]


class _Resizers(threading.local):
    def __init__(self) -> None:
        self._requests: dict[tuple[str, int, int, int], ov.InferRequest] = {}

    def run(self, pixels: Pixels, algorithm: GraphAlgorithm, height: int, width: int) -> Pixels:
        key = (algorithm, height, width, pixels.shape[2])
        request = self._requests.get(key)
        if request is None:
            if len(self._requests) == MAX_RESIZERS:
                self._requests.clear()
            request = self._requests[key] = _resizer(*key).create_infer_request()
        pixels = np.ascontiguousarray(pixels)
        request.set_input_tensor(0, ov.Tensor(pixels.reshape(-1), (1, *pixels.shape), ov.Type.u8))
        try:
            # Not in place: a synchronous run would not raise when it fails.
            request.start_async()
            request.wait()
            result: Pixels = request.get_output_tensor(0).data[0].copy()
        except BaseException:
            del self._requests[key]  # it may have been spoiled
            raise
        if pixels.nbytes > MAX_KEPT_BYTES:
            del self._requests[key]
        return result


_resizers = _Resizers()


def resized(pixels: Pixels, algorithm: GraphAlgorithm, height: int, width: int) -> Pixels:
    """An image of this size. Raises what the runtime raises, which only lack of memory makes it do."""
    return _resizers.run(pixels, algorithm, height, width)


def _resizer(algorithm: str, height: int, width: int, channels: int) -> ov.CompiledModel:
    pixels = opset.parameter([1, height, width, channels], ov.Type.u8)
    processor = PrePostProcessor(ov.Model([opset.concat([pixels], 0)], [pixels]))
    info = processor.input(0)
    info.tensor().set_layout(ov.Layout("NHWC")).set_spatial_dynamic_shape()
    info.model().set_layout(ov.Layout("NHWC"))
    info.preprocess().resize(_ALGORITHMS[algorithm])
    one_thread = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
    return ov.Core().compile_model(processor.build(), "CPU", {**one_thread, "CPU_RUNTIME_CACHE_CAPACITY": "0"})
