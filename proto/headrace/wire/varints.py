"""Varints: non-negative integers as protobuf writes them. Pure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_CHUNK_BYTES = 256 << 10
"""Bytes of varints that are decoded at once, which bounds the memory for it."""


@lru_cache(4096)
def varint(value: int) -> bytes:
    """The bytes of an integer that is not negative. Cached, because sizes and ids repeat: a quarter of the time."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The integer at a position, and the position after it.

    Raises IndexError when the integer is cut off by the end of the message, or takes more than ten bytes.
    """
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value = shift = 0
    while byte >= 0x80 and shift < 63:
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        byte = message[at]
    if byte >= 0x80:
        raise IndexError(f"the varint at byte {at - 9} takes more than ten bytes")
    return value | byte << shift, at + 1


def decode_varints(data: bytes) -> npt.NDArray[np.uint64]:
    """The integers of `data`, which is nothing but varints as protobuf writes them, each of at most ten bytes."""
    chunks: list[npt.NDArray[np.uint64]] = []
    at, end = 0, len(data)
    while at < end:
        stop = min(at + _CHUNK_BYTES, end)
        while data[stop - 1] >= 0x80:
            stop += 1
        chunks.append(_decode_chunk(np.frombuffer(data, np.uint8, stop - at, at)))
        at = stop
    return np.concatenate(chunks) if chunks else np.empty(0, np.uint64)


def _decode_chunk(octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    last = np.flatnonzero(octets < 0x80)
    if len(last) == len(octets):
        return octets.astype(np.uint64)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    values = (octets[first] & 0x7F).astype(np.uint64)
    for position in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > position)
        septets = (octets[first[longer] + position] & 0x7F).astype(np.uint64)
        values[longer] |= septets << np.uint64(7 * position)
    return values
