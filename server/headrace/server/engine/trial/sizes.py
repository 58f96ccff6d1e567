"""Runs a model with the sizes that clients will choose, because some end the runtime.

Kernels are chosen by size: products by weights of 4 bits divide by zero from five rows on (openvino 2026.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.server.engine.models import CompiledModel, Progress
from headrace.server.engine.strings import string_input
from headrace.wire.dtypes import ITEMSIZE, Datatype, numpy_dtype

SIZES = (1, 2, 5, 8, 16, 33, 64, 128, 0)
"""Tried along dynamic dimensions, as far as those admit them."""
MAX_INPUT_BYTES = 16 << 20
"""The inputs of a run that is tried, in total."""
SECONDS = 2.0
"""How long trying sizes may take."""
FLOATS = (Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BF16)

Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input."""


def combinations(inputs: Sequence[Port]) -> Iterator[Shapes]:
    """Shapes of the inputs: a size for every dynamic dimension; then for the first axes alone, and for the others
    alone. Those of too many bytes are left out."""
    seen: set[Shapes] = set()
    for size in SIZES:
        for rows, others in ((size, size), (size, 1), (1, size)):
            shapes = tuple(_shape(port, rows, others) for port in inputs)
            nbytes = sum(
                math.prod(shape) * ITEMSIZE.get(port.datatype, 1) for port, shape in zip(inputs, shapes, strict=True)
            )
            if shapes not in seen and nbytes <= MAX_INPUT_BYTES:
                seen.add(shapes)
                yield shapes


def _shape(port: Port, rows: int, others: int) -> tuple[int, ...]:
    if port.shape is None:
        return (rows, others)
    return tuple(_nearest(dimension, others if axis else rows) for axis, dimension in enumerate(port.shape))


def _nearest(dimension: Dimension, size: int) -> int:
    """The admitted size that is closest to this one."""
    nearest = max(dimension.min, size)
    return nearest if dimension.max < 0 else min(nearest, dimension.max)


class SizeRunner:
    """Runs a model in an InferRequest of its own; a new one of a new compiled model after a run that may have spoiled
    it.

    It must be kept until the process ends, because a run that is still in progress uses the memory of its inputs.
    """

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self._runtime = model.runtime
        self._request = self._runtime.create_infer_request()
        self._types = [port.get_element_type() for port in self._runtime.inputs]
        self._inputs: list[object] = []
        """The memory of the inputs, which the runtime does not keep alive."""

    def run_sizes(self, progress: Progress, seconds: float = SECONDS) -> None:
        """Run zeros and random numbers in every combination of sizes, until the time is up. A run may fail."""
        deadline = perf_counter() + seconds
        for shapes in combinations(self._model.runtime_spec.inputs):
            if not self._accepts(shapes):
                continue  # clients get as far as a run that fails; a graph that was spoiled costs a compilation here
            text = ", ".join(map(shape_text, shapes))
            progress(f"it runs inputs of {text}" if text else "it runs")
            for make in (zeros, sample):
                if perf_counter() >= deadline or not self._run(shapes, make, deadline):
                    return

    def _accepts(self, shapes: Shapes) -> bool:
        """Whether shape inference accepts the shapes, or cannot say."""
        accepts = self._model.accepts
        return accepts is None or accepts(dict(enumerate(shapes)))

    def _run(self, shapes: Shapes, make: Callable[[Port, int], npt.NDArray[np.uint8]], deadline: float) -> bool:
        """Run once. Returns False if the run is still in progress at the deadline."""
        try:
            self._inputs = []
            for port, shape in zip(self._model.runtime_spec.inputs, shapes, strict=True):
                self._request.set_input_tensor(port.index, self._tensor(port, shape, make))
            self._request.start_async()
            return bool(self._request.wait_for(max(1, round((deadline - perf_counter()) * 1e3))))
        except (RuntimeError, MemoryError):
            if self._model.compile is not None:
                self._runtime = self._model.compile()
                self._request = self._runtime.create_infer_request()
            return True

    def _tensor(
        self, port: Port, shape: tuple[int, ...], make: Callable[[Port, int], npt.NDArray[np.uint8]]
    ) -> ov.Tensor:
        elements = math.prod(shape)
        if port.datatype is Datatype.BYTES:
            return string_input(b"\1\0\0\0a" * elements, shape)
        data = make(port, elements)
        self._inputs.append(data)
        return ov.Tensor(data, shape, self._types[port.index])


def shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def zeros(port: Port, elements: int) -> npt.NDArray[np.uint8]:
    return np.zeros(elements * ITEMSIZE[port.datatype], np.uint8)


def sample(port: Port, elements: int, seed: int = 0, scale: float = 1.0) -> npt.NDArray[np.uint8]:
    """Normally distributed floats, times `scale`; integers of 0 and 1, because they may be indices."""
    random = np.random.default_rng(elements if not seed else (elements, port.index, seed))
    if port.datatype in FLOATS:
        numbers: npt.NDArray[np.generic] = random.standard_normal(elements, np.float32) * np.float32(scale)
    else:
        numbers = random.integers(0, 2, elements, np.uint8)
    with np.errstate(over="ignore"):
        return numbers.astype(numpy_dtype(port.datatype)).view(np.uint8)
