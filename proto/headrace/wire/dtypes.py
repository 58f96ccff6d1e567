"""The datatypes of tensors: one enum, with the names of the Open Inference Protocol and the numbers of headrace.v1."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import ml_dtypes
import numpy as np

from headrace.wire.errors import InvalidArgument, quote


class Datatype(IntEnum):
    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BF16 = 13
    BYTES = 14


_NUMPY: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BF16: np.dtype(ml_dtypes.bfloat16),
    Datatype.BYTES: np.dtype(np.object_),
}
_DATATYPES = {dtype: datatype for datatype, dtype in _NUMPY.items()}

ITEMSIZE: dict[Datatype, int] = {
    datatype: 0 if datatype is Datatype.BYTES else dtype.itemsize for datatype, dtype in _NUMPY.items()
}
"""Bytes per element; 0 for BYTES, whose elements differ in size."""


def numpy_dtype(datatype: Datatype) -> np.dtype[Any]:
    """The NumPy dtype of a datatype: `ml_dtypes.bfloat16` for BF16, object for BYTES."""
    return _NUMPY[datatype]


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """The datatype of a NumPy dtype, of either byte order. Raises InvalidArgument if it has none."""
    found = _DATATYPES.get(dtype) or _DATATYPES.get(dtype.newbyteorder("<"))
    if found is not None:
        return found
    if dtype.kind in "SU":
        return Datatype.BYTES
    raise InvalidArgument(f"NumPy dtype {quote(str(dtype))} has no datatype on the wire")


def datatype_from(number: int) -> Datatype:
    """The datatype with this number. Raises InvalidArgument for an unknown number."""
    try:
        return Datatype(number)
    except ValueError:
        raise InvalidArgument(f"datatype number {number} is unknown") from None
