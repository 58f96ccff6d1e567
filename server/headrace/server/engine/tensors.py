"""Outputs that have been computed, as bytes in memory that is no longer written to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.tensors import Buffer, decode_bytes, encode_bytes, sliced_shape

MAX_COPIED_BYTES = 64 << 10
"""A tensor of at most this size is copied in and out: giving the runtime another tensor costs 2 to 4 us."""


def as_bytes(array: npt.NDArray[np.generic]) -> memoryview:
    """The bytes of a C-contiguous array, read-only, not copied. The view keeps the array alive.

    They are viewed as uint8, because memoryview supports neither bfloat16 (which the runtime shows as float16) nor
    shapes with a zero.
    """
    return array.reshape(-1).view(np.uint8).data.toreadonly()


Data = bytes | memoryview


class OutputTensor:
    """An output of a run: an `engine_api.Tensor` over `data`, its row-major bytes.

    `data` is bytes, or a read-only view of the memory that the runtime wrote to. Views that `read` returns keep that
    memory alive, with or without this object.
    """

    __slots__ = ("_data", "datatype", "nbytes", "shape")

    def __init__(self, datatype: Datatype, shape: tuple[int, ...], data: Data) -> None:
        self.datatype = datatype
        self.shape = shape
        self._data = data
        self.nbytes = len(data)

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> Buffer:
        """The bytes of all elements, or of the elements start..stop along each leading axis.

        `slices` lie inside the shape. Returns a view where the elements are contiguous in memory, else a copy.
        """
        if not slices:
            return self._data
        if self.datatype is Datatype.BYTES:
            strings = decode_bytes(self._data, self.shape)
            return encode_bytes(strings[tuple(slice(*bounds) for bounds in slices)])
        itemsize = ITEMSIZE[self.datatype]
        if _is_contiguous(self.shape, slices):
            start, stride = 0, itemsize * math.prod(self.shape[len(slices) :])
            for axis in reversed(range(len(slices))):
                start += slices[axis][0] * stride
                stride *= self.shape[axis]
            size = itemsize * math.prod(sliced_shape(self.shape, slices))
            return memoryview(self._data)[start : start + size]
        elements = np.frombuffer(self._data, np.uint8).reshape(*self.shape, itemsize)
        return elements[tuple(slice(*bounds) for bounds in slices)].tobytes()

    def __repr__(self) -> str:
        return f"<OutputTensor {self.datatype.name}{list(self.shape)}, {self.nbytes} bytes>"


def _is_contiguous(shape: tuple[int, ...], slices: Sequence[tuple[int, int]]) -> bool:
    """Whether the slice is contiguous: all axes before the last one that is cut must be cut to one element or none."""
    cut = [axis for axis, (start, stop) in enumerate(slices) if stop - start != shape[axis]]
    return not cut or all(stop - start <= 1 for start, stop in slices[: cut[-1]])
