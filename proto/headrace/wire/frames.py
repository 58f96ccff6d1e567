"""Frames as bytes: the outer shape of ClientFrame and ServerFrame, which is the same.

Both are `repeated <item> = 1; repeated bytes tensors = 2;`. Tensor bytes stand at the top level, so a large message is
taken apart without protobuf touching them: the items are parsed, the tensors are views of the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import Buffer

FOR_EVER_US = (1 << 64) - 1
"""Microseconds that have no end, where a message holds a time."""
MAX_ITEMS = 1024
MAX_TENSORS = 16384
MAX_OVERHEAD = 1 << 20
"""Bytes of a message that are not tensor bytes."""
SCAN_FROM = 256 << 10
"""Messages up to this size are parsed at once: it takes milliseconds at the very most, and the copies are small."""
FRAME_BYTES = 1 << 20
"""Where a frame closes, unless one item alone is larger."""

_TENSOR = 0x12  # field 2, length-delimited
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}


def frame_items(window: int) -> int:
    """Where a frame closes: an eighth of the window, so that several frames are under way at once.

    With all that is in flight in one frame, client and server would work in turns instead of side by side.
    """
    return min(128, max(16, window // 8))


class Frame(Protocol):
    """ClientFrame or ServerFrame."""

    @property
    def tensors(self) -> Sequence[bytes]: ...

    def ParseFromString(self, serialized: bytes) -> object: ...


F = TypeVar("F", bound=Frame)


def parse_frame(message: bytes, frame: F) -> tuple[F, Sequence[Buffer]]:
    """Parse a message into `frame` (an empty one) and its tensors.

    From a large message the frame gets the items alone, and the tensors are views: they keep the message alive.
    Raises InvalidArgument when the message is no frame or breaks a bound of the contract (items: the caller's to count
    in a small message, where parsing them was cheap).
    """
    try:
        if len(message) <= SCAN_FROM:
            frame.ParseFromString(message)
            tensors: Sequence[Buffer] = list(frame.tensors)
        else:
            items, tensors = _scan(message)
            frame.ParseFromString(items)
    except DecodeError:
        raise InvalidArgument(f"a message of {len(message)} bytes is no frame") from None
    if len(tensors) > MAX_TENSORS:
        raise InvalidArgument(f"a frame holds {len(tensors)} tensors, at most {MAX_TENSORS} are taken")
    return frame, tensors


def join_frame(items: bytes, tensors: Iterable[Buffer]) -> bytes:
    """A frame's message: the serialised frame without tensors, then each tensor. One copy of each tensor's bytes."""
    parts: list[Buffer] = [items]
    for tensor in tensors:
        parts += (tensor_header(len(tensor)), tensor)
    return b"".join(parts)


@lru_cache(4096)
def tensor_header(size: int) -> bytes:
    """What stands before the bytes of a tensor. The sizes of tensors repeat."""
    return bytes((_TENSOR,)) + varint(size)


@lru_cache(4096)
def varint(value: int) -> bytes:
    """A number as protobuf writes it; not negative. Most are small, or have been written a moment ago."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _scan(message: bytes) -> tuple[bytes, list[memoryview]]:
    """Split a message into its items, still serialised, and views of its tensors; count before anything is parsed."""
    view, at, end = memoryview(message), 0, len(message)
    items: list[memoryview] = []
    tensors: list[memoryview] = []
    overhead = 0
    while at < end:
        start = at
        key, at = _varint(message, at)
        if key & 7 == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
            stop = at + size
        else:
            # A field of a later version of the contract: protobuf skips it, or says that it is none.
            stop = _varint(message, at)[1] if key & 7 == _VARINT else at + _FIXED.get(key & 7, end)
        if stop > end:
            raise InvalidArgument(f"a message of {end} bytes is no frame")
        if key == _TENSOR:
            tensors.append(view[at:stop])
            overhead += at - start
        else:
            items.append(view[start:stop])
            overhead += stop - start
        if len(items) > MAX_ITEMS:
            raise InvalidArgument(f"a frame holds more than {MAX_ITEMS} commands")
        if len(tensors) > MAX_TENSORS:
            raise InvalidArgument(f"a frame holds more than {MAX_TENSORS} tensors")
        if overhead > MAX_OVERHEAD:
            raise InvalidArgument(f"a frame holds more than {MAX_OVERHEAD} bytes besides its tensors")
        at = stop
    return b"".join(items), tensors


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise InvalidArgument(f"a message of {len(message)} bytes is no frame")
