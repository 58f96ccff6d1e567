"""Tensors as bytes: row-major, little-endian, without padding; BYTES as length-prefixed elements. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import pairwise
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
    elements: list[Any] = array.ravel().tolist()
    if set(map(type, elements)) - {bytes}:
        elements = [_as_bytes(element) for element in elements]
    lengths = np.fromiter(map(len, elements), "<u4", len(elements)).tobytes()
    parts = [b""] * (2 * len(elements))
    parts[::2] = [lengths[at : at + _LENGTH.size] for at in range(0, len(lengths), _LENGTH.size)]
    parts[1::2] = elements
    return b"".join(parts)


def _as_bytes(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if not isinstance(element, str):
        raise InvalidArgument(f"an element of type {type(element).__name__} is neither str nor bytes")
    try:
        return element.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"element {quote(element)} cannot be encoded as UTF-8") from None


def decode_bytes(data: Buffer, shape: Sequence[int]) -> npt.NDArray[np.object_]:
    """The elements of a BYTES tensor. Raises InvalidArgument unless they are exactly as many as the shape requires."""
    plain = bytes(data)  # slices of bytes take half the time of slices of a view
    elements = [plain[start + _LENGTH.size : stop] for start, stop in pairwise(bytes_offsets(plain, shape))]
    return np.fromiter(elements, np.object_, len(elements)).reshape(shape)


def check_bytes(data: Buffer, shape: Sequence[int]) -> None:
    """Raise the errors of `decode_bytes`, without making the elements."""
    bytes_offsets(data, shape)


def bytes_offsets(data: Buffer, shape: Sequence[int]) -> list[int]:
    """Where the length of each element of a BYTES tensor stands, and then where the last element ends.

    Each element says where the next one is, so this is a loop in Python, at 0.1 us per element: the server bounds the
    elements of a message (`limits.MAX_STRINGS`). Raises the errors of `decode_bytes`.
    """
    view = memoryview(data)
    count = element_count(shape)
    if count * _LENGTH.size > len(view):
        raise InvalidArgument(f"{len(view)} bytes cannot hold the {count} elements of shape {list(shape)}")
    unpack, at = _LENGTH.unpack_from, 0
    offsets = [0]
    try:
        for _ in range(count):
            at += _LENGTH.size + unpack(view, at)[0]
            offsets.append(at)
    except struct.error:
        at = -1
    if at != len(view):
        raise _wrong_elements(view, offsets, count)
    return offsets


def _wrong_elements(view: memoryview, offsets: Sequence[int], count: int) -> InvalidArgument:
    """What is wrong with elements that begin at `offsets`, the last of which may lie beyond the end."""
    end = len(view)
    for i, (start, stop) in enumerate(pairwise(offsets)):
        if stop > end:
            start += _LENGTH.size
            return InvalidArgument(f"element {i} claims {stop - start} bytes, but only {end - start} are left")
    if len(offsets) <= count:
        return InvalidArgument(f"the bytes end before element {len(offsets) - 1} of {count}")
    return InvalidArgument(f"{end - offsets[-1]} bytes are left over after {count} elements")


def sliced_shape(shape: Sequence[int], slices: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The shape of a slice along the leading axes. Raises InvalidArgument unless it lies inside `shape`."""
    if len(slices) > len(shape):
        raise InvalidArgument(f"{len(slices)} slices for a tensor of {len(shape)} dimensions")
    for axis, (start, stop) in enumerate(slices):
        if not 0 <= start <= stop <= shape[axis]:
            raise InvalidArgument(f"slice {start}:{stop} does not lie inside axis {axis} of size {shape[axis]}")
    return tuple(stop - start for start, stop in slices) + tuple(shape[len(slices) :])
