"""BYTES: tensors whose elements are strings.

The Python binding reads and writes strings in arrays whose elements are all as long as the longest, cuts NUL bytes off
their ends, and takes 0.4 us per element. So two small models of the runtime's own operators take strings apart and put
them together: a string of 15 MB among 16,000 empty ones takes 10 ms in each direction, where it took 45 and 150.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.in_place import infer_in_place
from headrace.server.engine.tensors import MAX_COPIED_BYTES, OutputTensor
from headrace.wire.dtypes import Datatype
from headrace.wire.tensors import Buffer, bytes_offsets

MAX_BOUND_ELEMENTS = 100
"""Elements up to which the binding takes less time than the model that puts strings together, which needs a thread of
the runtime."""
_PREFIX = 4
"""Bytes of the length before each element."""


def string_input(data: Buffer, shape: tuple[int, ...]) -> ov.Tensor:
    """A tensor of the encoded elements. Raises InvalidArgument unless they are as many as the shape requires."""
    offsets = bytes_offsets(data, shape)
    count = len(offsets) - 1
    tensor = ov.Tensor(ov.Type.string, ov.Shape([count]))
    if count:
        small = count <= MAX_BOUND_ELEMENTS and len(data) <= MAX_COPIED_BYTES
        if not (small and _bind(tensor, bytes(data), offsets)):
            _converters.pack(data, np.array(offsets, np.int32), tensor)
    tensor.shape = shape
    return tensor


def string_output(tensor: ov.Tensor) -> OutputTensor:
    """A copy of the elements. Raises MemoryError if they take 2 GiB or more together."""
    shape = tuple(tensor.shape)
    if 0 in shape:
        return OutputTensor(Datatype.BYTES, shape, b"")
    tensor.shape = [tensor.size]
    try:
        data = _converters.unpack(tensor)
    finally:
        tensor.shape = shape
    return OutputTensor(Datatype.BYTES, shape, data)


def prepare_strings() -> None:
    """Compile the two models, which takes 40 ms once in a process, so that no request waits for it."""
    _packer()
    _unpacker()


def _bind(tensor: ov.Tensor, data: bytes, offsets: Sequence[int]) -> bool:
    """Fill the tensor through the binding, unless an element ends in a NUL byte."""
    elements = [data[start + _PREFIX : stop] for start, stop in pairwise(offsets)]
    if b"\0" in b"".join([element[-1:] for element in elements]):
        return False
    tensor.bytes_data = elements
    return True


class _Converters(threading.local):
    """The requests of a thread for the two models. Those that have seen large strings are dropped with them."""

    @cached_property
    def _packing(self) -> ov.InferRequest:
        return _packer().create_infer_request()

    @cached_property
    def _unpacking(self) -> ov.InferRequest:
        return _unpacker().create_infer_request()

    def pack(self, data: Buffer, offsets: npt.NDArray[np.int32], tensor: ov.Tensor) -> None:
        """Fill the tensor with elements that stand in `data` from each offset to the next, each after its length."""
        request = self._packing
        begins, ends = offsets[:-1] + _PREFIX, offsets[1:].copy()
        octets = np.frombuffer(data, np.uint8)
        request.set_input_tensor(0, ov.Tensor(begins, ov.Shape(begins.shape), ov.Type.i32))
        request.set_input_tensor(1, ov.Tensor(ends, ov.Shape(ends.shape), ov.Type.i32))
        request.set_input_tensor(2, ov.Tensor(octets, ov.Shape(octets.shape), ov.Type.u8))
        request.set_output_tensor(0, tensor)
        # Not in place: the binding would return the elements in an array.
        request.start_async()
        request.wait()
        del self._packing  # it would write to `tensor` again

    def unpack(self, tensor: ov.Tensor) -> bytes:
        """The elements of a tensor of one dimension, each after its length."""
        request = self._unpacking
        request.set_input_tensor(0, tensor)
        infer_in_place(request)
        begins, ends, octets = (request.get_output_tensor(index).data for index in range(3))
        if max(octets.size, tensor.byte_size) > MAX_COPIED_BYTES:
            del self._unpacking
        stops, lengths = ends.tolist(), ends - begins
        if stops[-1] != octets.size:
            raise MemoryError  # positions have 32 bits
        view, prefixes = octets.data, lengths.astype("<u4").tobytes()
        parts: list[Buffer] = [b""] * (2 * len(stops))
        parts[::2] = [prefixes[at : at + _PREFIX] for at in range(0, len(prefixes), _PREFIX)]
        parts[1::2] = [view[start:stop] for start, stop in pairwise([0, *stops])]
        return b"".join(parts)


_converters = _Converters()


@cache
def _packer() -> ov.CompiledModel:
    begins, ends, octets = (opset.parameter([-1], of) for of in (ov.Type.i32, ov.Type.i32, ov.Type.u8))
    return _compiled(ov.Model([opset.string_tensor_pack(begins, ends, octets)], [begins, ends, octets]))


@cache
def _unpacker() -> ov.CompiledModel:
    strings = opset.parameter([-1], ov.Type.string)
    return _compiled(ov.Model(opset.string_tensor_unpack(strings).outputs(), [strings]))


def _compiled(model: ov.Model) -> ov.CompiledModel:
    """For the processor, which each installation of the runtime has, whatever device the strings are for."""
    one_thread = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
    return ov.Core().compile_model(model, "CPU", {**one_thread, "CPU_RUNTIME_CACHE_CAPACITY": "0"})
