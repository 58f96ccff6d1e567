"""Tensors as bytes: row-major, little-endian, without padding; BYTES as length-prefixed elements. Pure."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.wire.dtypes import ITEMSIZE, Datatype, datatype_of, numpy_dtype
from headrace.wire.errors import InvalidArgument, quote

Buffer = bytes | bytearray | memoryview
MAX_RANK = 32
"""The most dimensions that a tensor may have. No runtime or NumPy release takes more than 64."""

_LENGTH = struct.Struct("<I")
_INT64_MAX = 2**63 - 1


def element_count(shape: Sequence[int]) -> int:
    """The number of elements of a shape from outside.

    Raises InvalidArgument for too many dimensions, a negative one, or a product over 63 bits.
    """
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f"a shape has {len(shape)} dimensions; the limit is {MAX_RANK}")
    for size in shape:
        if size < 0:
            raise InvalidArgument(f"shape {list(shape)} has the negative dimension {size}")
    count = math.prod(shape)
    # Also without the zeros: no runtime makes an empty tensor whose other dimensions overflow.
    if (count or math.prod(filter(None, shape))) > _INT64_MAX // 8:
        raise InvalidArgument(f"shape {list(shape)} overflows: its elements cannot be counted in 64 bits")
    return count


def byte_count(datatype: Datatype, shape: Sequence[int]) -> int | None:
    """The size of a tensor in bytes; None for BYTES, whose size does not follow from its shape.

    Raises the errors of `element_count`.
    """
    count = element_count(shape)
    return None if datatype is Datatype.BYTES else count * ITEMSIZE[datatype]


def to_wire(array: npt.ArrayLike) -> tuple[Datatype, tuple[int, ...], memoryview]:
    """Datatype, shape and bytes of an array, without a copy if it is contiguous and little-endian.

    The view then shares the memory of the array, which must not change until it has been sent.
    """
    array = np.asarray(array)
    datatype = datatype_of(array.dtype)
    if datatype is Datatype.BYTES:
        return datatype, array.shape, memoryview(encode_bytes(array))
    plain = np.ascontiguousarray(array, dtype=numpy_dtype(datatype))
    # A uint8 view first: memoryview supports neither bfloat16 nor shapes with a zero in them.
    return datatype, array.shape, plain.reshape(-1).view(np.uint8).data


def from_wire(data: Buffer, datatype: Datatype, shape: Sequence[int]) -> npt.NDArray[Any]:
    """A read-only array over the bytes, without a copy; for BYTES an object array of bytes.

    Raises InvalidArgument unless the number of bytes is exactly what the shape requires.
    """
    if datatype is Datatype.BYTES:
        return decode_bytes(data, shape)
    size = byte_count(datatype, shape)
    if len(data) != size:
        raise InvalidArgument(f"{len(data)} bytes were given, but {datatype.name}{list(shape)} takes {size}")
    array = np.frombuffer(data, numpy_dtype(datatype)).reshape(shape)
    array.flags.writeable = False
    return array


def encode_bytes(array: npt.NDArray[Any]) -> bytes:
    """Elements of type bytes or str (as UTF-8), each after its length. Raises InvalidArgument for other types."""
    parts: list[bytes] = []
    for element in array.flat:
        if isinstance(element, str):
            try:
                element = element.encode()
            except UnicodeEncodeError:
                raise InvalidArgument(f"element {quote(element)} cannot be encoded as UTF-8") from None
        elif not isinstance(element, bytes):
            raise InvalidArgument(f"an element of type {type(element).__name__} is neither str nor bytes")
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def decode_bytes(data: Buffer, shape: Sequence[int]) -> npt.NDArray[np.object_]:
    """The elements of a BYTES tensor. Raises InvalidArgument unless they are exactly as many as the shape requires."""
    view = memoryview(data)
    array = np.empty(_bytes_count(view, shape), np.object_)
    for i, (start, stop) in enumerate(_elements(view, len(array))):
        array[i] = bytes(view[start:stop])
    return array.reshape(shape)


def check_bytes(data: Buffer, shape: Sequence[int]) -> None:
    """Raise the errors of `decode_bytes`, without making the elements."""
    view = memoryview(data)
    deque(_elements(view, _bytes_count(view, shape)), maxlen=0)


def _bytes_count(view: memoryview, shape: Sequence[int]) -> int:
    """The number of elements of a BYTES tensor, checked against its bytes before anything is allocated."""
    count = element_count(shape)
    if count * _LENGTH.size > len(view):
        raise InvalidArgument(f"{len(view)} bytes cannot hold the {count} elements of shape {list(shape)}")
    return count


def _elements(view: memoryview, count: int) -> Iterator[tuple[int, int]]:
    """Yield where each element of a BYTES tensor starts and stops."""
    at, end = 0, len(view)
    for i in range(count):
        start = at + _LENGTH.size
        if start > end:
            raise InvalidArgument(f"the bytes end before element {i} of {count}")
        (length,) = _LENGTH.unpack_from(view, at)
        at = start + length
        if at > end:
            raise InvalidArgument(f"element {i} claims {length} bytes, but only {end - start} are left")
        yield start, at
    if at != end:
        raise InvalidArgument(f"{end - at} bytes are left over after {count} elements")


def sliced_shape(shape: Sequence[int], slices: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The shape of a slice along the leading axes. Raises InvalidArgument unless it lies inside `shape`."""
    if len(slices) > len(shape):
        raise InvalidArgument(f"{len(slices)} slices for a tensor of {len(shape)} dimensions")
    for axis, (start, stop) in enumerate(slices):
        if not 0 <= start <= stop <= shape[axis]:
            raise InvalidArgument(f"slice {start}:{stop} does not lie inside axis {axis} of size {shape[axis]}")
    return tuple(stop - start for start, stop in slices) + tuple(shape[len(slices) :])
