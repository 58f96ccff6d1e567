"""Varints: non-negative integers as protobuf writes them. Pure."""

from __future__ import annotations

from functools import lru_cache


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
