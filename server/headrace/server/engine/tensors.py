"""Outputs that have been computed and inputs that are kept, as bytes in memory that is no longer written to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.server.core.engine_api import Slices
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.tensors import Buffer, bytes_offsets, sliced_shape

MAX_COPIED_BYTES = 64 << 10
"""A tensor of at most this size is copied in and out: giving the runtime another tensor costs 2 to 4 us."""


def as_bytes(array: npt.NDArray[np.generic]) -> memoryview:
    """The bytes of a C-contiguous array, read-only, not copied. The view keeps the array alive.

    They are viewed as uint8, because memoryview supports neither bfloat16 (which the runtime shows as float16) nor
    shapes with a zero.
    """
    return array.reshape(-1).view(np.uint8).data.toreadonly()


Data = bytes | memoryview
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "ailed to allocate", "allocate memory", "out of memory")
"""What the runtime's exceptions say when memory could not be allocated: they have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the runtime or of NumPy says that memory could not be allocated."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


class OutputTensor:
    """An output of a run, or an input of one that is kept: an `engine_api.Tensor` over `data`, its row-major bytes.

    `data` is bytes, or a read-only view of memory that nobody writes to any more. Views that `read` returns keep that
    memory alive, with or without this object.
    """

    __slots__ = ("_data", "_offsets", "datatype", "nbytes", "shape")

    def __init__(self, datatype: Datatype, shape: tuple[int, ...], data: Data) -> None:
        self.datatype = datatype
        self.shape = shape
        self._data = data
        self.nbytes = len(data)
        self._offsets: Sequence[int] = ()
        """Of BYTES: where each element starts, and where the last one ends, once a slice has been read."""

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> Buffer:
        """The bytes of all elements, or of the elements start..stop along each leading axis.

        `slices` lie inside the shape. Returns a view where the elements are contiguous in memory, else a copy.
        """
        if not slices:
            return self._data
        first, count = _run(self.shape, slices)
        if not count:
            return b""
        if self.datatype is Datatype.BYTES:
            return self._read_strings(first, count, slices)
        itemsize = ITEMSIZE[self.datatype]
        if count >= 0:
            return memoryview(self._data)[first * itemsize : (first + count) * itemsize]
        # Of any type of this size: NumPy copies whole elements faster than their bytes.
        elements = np.frombuffer(self._data, f"u{itemsize}").reshape(self.shape)
        return elements[tuple(slice(*bounds) for bounds in slices)].tobytes()

    def _read_strings(self, first: int, count: int, slices: Sequence[tuple[int, int]]) -> Buffer:
        offsets = self._offsets = self._offsets or bytes_offsets(self._data, self.shape)
        if count >= 0:
            return memoryview(self._data)[offsets[first] : offsets[first + count]]
        positions = np.arange(len(offsets) - 1).reshape(self.shape)[tuple(slice(*bounds) for bounds in slices)]
        return b"".join([self._data[offsets[i] : offsets[i + 1]] for i in positions.ravel().tolist()])

    def sliced(self, slices: Slices) -> TensorSlice:
        """A slice along the leading axes, which lies inside the shape, as a tensor."""
        return TensorSlice(self, slices)

    def __repr__(self) -> str:
        return f"<OutputTensor {self.datatype.name}{list(self.shape)}, {self.nbytes} bytes>"


class TensorSlice:
    """A slice of a tensor, which is not read before its bytes are needed: an `engine_api.Tensor`."""

    __slots__ = ("_slices", "_tensor", "datatype", "shape")

    def __init__(self, tensor: OutputTensor, slices: Slices) -> None:
        self._tensor = tensor
        self._slices = slices
        self.datatype = tensor.datatype
        self.shape = sliced_shape(tensor.shape, slices)

    @property
    def nbytes(self) -> int:
        """Of BYTES it is not known before they are read."""
        return len(self.read()) if self.datatype is Datatype.BYTES else math.prod(self.shape) * ITEMSIZE[self.datatype]

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> Buffer:
        """The bytes of all its elements, or of a slice: a view if they are contiguous in memory, else a copy."""
        return self._tensor.read(self._within(slices))

    def sliced(self, slices: Slices) -> TensorSlice:
        """A slice of this slice."""
        return TensorSlice(self._tensor, self._within(slices))

    def _within(self, slices: Sequence[tuple[int, int]]) -> Slices:
        """Slices of this slice as slices of the whole tensor."""
        firsts = [start for start, _ in self._slices]
        firsts += [0] * (len(slices) - len(firsts))
        moved = [(first + start, first + stop) for first, (start, stop) in zip(firsts, slices, strict=False)]
        return (*moved, *self._slices[len(slices) :])

    def __repr__(self) -> str:
        return f"<TensorSlice {list(self.shape)} of {self._tensor}>"


def _run(shape: tuple[int, ...], slices: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The first element of a slice and the number of its elements, or -1 if they are not contiguous.

    They are if all axes before the last one that is cut are cut to one element or none.
    """
    cut = [axis for axis, (start, stop) in enumerate(slices) if stop - start != shape[axis]]
    first, stride = 0, math.prod(shape[len(slices) :])
    for axis in reversed(range(len(slices))):
        first += slices[axis][0] * stride
        stride *= shape[axis]
    if cut and any(stop - start > 1 for start, stop in slices[: cut[-1]]):
        return first, -1
    return first, math.prod(sliced_shape(shape, slices))
