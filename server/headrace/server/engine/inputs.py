"""The inputs of a slot: memory of its own for small inputs and for batches, the caller's memory for large ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import openvino as ov

from headrace.server.core.calls import Plan
from headrace.server.core.engine_api import Part
from headrace.server.core.specs import Port
from headrace.server.engine.models import CompiledModel
from headrace.server.engine.ports import row_shape
from headrace.server.engine.run_inputs import columns, inputs_of
from headrace.server.engine.strings import string_input
from headrace.server.engine.tensors import MAX_COPIED_BYTES
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.tensors import Buffer

MAX_CACHED_BYTES = 16 << 10
"""The memory of a batch of at most this size is kept for the next batch with as many rows. Making new memory takes 5
us, and 30 us after other work, which is as long as the run of a small model."""

MAX_JOINED_BYTES = 4 << 10
"""Parts of a batch of at most this size on average are joined, and the whole is copied: to copy each by itself would
take longer."""

Shape = tuple[int, ...]


class _Staging:
    """Memory of the slot that is set as an input, and that inputs are copied to."""

    __slots__ = ("memory", "shape", "tensor")

    def __init__(self, shape: Shape, memory: memoryview, tensor: ov.Tensor) -> None:
        self.shape = shape
        self.memory = memory
        self.tensor = tensor


class Inputs:
    """The inputs of one InferRequest. A tensor stays set until another is, so each input is written or set before a
    run."""

    def __init__(self, model: CompiledModel, request: ov.InferRequest) -> None:
        self._request = request
        self._types = [port.get_element_type() for port in model.runtime.inputs]
        self._staged: list[_Staging | None] = [None] * len(self._types)
        self._row_shapes = [row_shape(port) for port in model.runtime_spec.inputs]
        self._max_rows = model.spec.batch
        self._cached: dict[tuple[int, Shape], _Staging] = {}
        """By port and shape, for models that run in batches: at most one entry per input and number of rows."""
        self._in_use: list[npt.NDArray[np.uint8]] = []
        self._plan: Plan | None = None
        """The plan of the last run, if the inputs of each run of this plan are in memory of the slot."""
        self._inline_memory: Sequence[memoryview] = ()
        self._reference_memory: Sequence[memoryview] = ()
        """That memory, in the order of the plan's inputs."""

    def feed(self, part: Part) -> None:
        """Make the data of a part the inputs. It may have any alignment.

        Raises ValueError when the bytes of an input do not match its shape.
        """
        plan = part.plan
        assert plan is not None
        if plan is self._plan:
            for memory, data in zip(self._inline_memory, part.inline, strict=True):
                memory[:] = data
            for memory, tensor in zip(self._reference_memory, part.references, strict=True):
                memory[:] = tensor.read()
            return  # the zeros are still zero
        self._plan = None
        for port, shape, data in inputs_of(part):
            if port.datatype is Datatype.BYTES:
                self._request.set_input_tensor(port.index, string_input(data, shape))
            elif len(data) <= MAX_COPIED_BYTES:
                self._memory(port, shape)[:] = data  # raises ValueError when the sizes differ
            else:
                self._set(port, shape, data)
        if plan.fixed and None not in self._staged:
            staged = [each.memory for each in self._staged if each is not None]
            self._inline_memory = [staged[bound.port.index] for bound in plan.inline]
            self._reference_memory = [staged[bound.port.index] for bound in plan.references]
            self._plan = plan

    def feed_batch(self, parts: Sequence[Part], rows: int) -> None:
        """Join the data of parts, which have this number of rows in total. Raises as `feed` does."""
        self._plan = None
        for port, column in columns(parts):
            memory = self._rows(port, rows)
            if len(memory) <= MAX_JOINED_BYTES * len(column):
                memory[:] = b"".join(column)
            else:
                _copy_each(column, memory)

    def feed_zeros(self, shapes: Mapping[Port, Shape]) -> None:
        """Make zeros of these shapes the inputs, or strings of no bytes."""
        self._plan = None
        for port, shape in shapes.items():
            if port.datatype is Datatype.BYTES:
                self._request.set_input_tensor(port.index, string_input(bytes(4 * math.prod(shape)), shape))
                continue
            nbytes = math.prod(shape) * ITEMSIZE[port.datatype]
            if nbytes <= MAX_COPIED_BYTES:
                self._memory(port, shape)[:] = bytes(nbytes)
            else:
                self._set(port, shape, np.zeros(nbytes, np.uint8).data)

    def release(self) -> None:
        """The run is over: give memory that was lent to it back to the caller."""
        self._in_use.clear()

    def close(self) -> None:
        """Drop the InferRequest, which the traceback of an error might keep alive through this object."""
        self._request = None

    def _set(self, port: Port, shape: Shape, data: Buffer) -> None:
        array = np.frombuffer(data, np.uint8)
        # The runtime does not check the size and would read beyond the end.
        if array.size != math.prod(shape) * ITEMSIZE[port.datatype]:
            raise ValueError(f"input {port.name!r} of shape {list(shape)} cannot have {array.size} bytes")
        self._request.set_input_tensor(port.index, ov.Tensor(array, shape, self._types[port.index]))
        self._staged[port.index] = None
        self._in_use.append(array)

    def _rows(self, port: Port, rows: int) -> memoryview:
        """Memory that is set as an input of this number of rows."""
        return self._memory(port, (rows, *self._row_shapes[port.index]))

    def _memory(self, port: Port, shape: Shape) -> memoryview:
        """Memory that is set as an input of this shape."""
        staged = self._staged[port.index]
        if staged is None or staged.shape != shape:
            staged = self._cached.get((port.index, shape)) or self._make(port, shape)
            self._request.set_input_tensor(port.index, staged.tensor)
            self._staged[port.index] = staged
        return staged.memory

    def _make(self, port: Port, shape: Shape) -> _Staging:
        memory = np.empty(math.prod(shape) * ITEMSIZE[port.datatype], np.uint8)
        staged = _Staging(shape, memory.data, ov.Tensor(memory, shape, self._types[port.index]))
        if self._max_rows > 1 and shape[0] <= self._max_rows and memory.nbytes <= MAX_CACHED_BYTES:
            self._cached[port.index, shape] = staged
        return staged


def _copy_each(column: Sequence[Buffer], memory: memoryview) -> None:
    """Fill `memory`. Raises ValueError if the sizes differ."""
    at = 0
    for data in column:
        stop = at + len(data)
        memory[at:stop] = data
        at = stop
    if at != len(memory):
        raise ValueError(f"the parts of a batch have {at} bytes for {len(memory)}")
