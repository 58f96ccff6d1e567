"""Frames as bytes: the outer shape of ClientFrame and ServerFrame, which is the same.

Both are `repeated <item> = 1; repeated bytes tensors = 2;`. Tensor bytes stand at the top level, so protobuf never
touches those of a large message: it parses the items, and the tensors are views of the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import Buffer
from headrace.wire.varints import read_varint, varint

MAX_ITEMS = 1024
"""Commands or events in a frame."""
MAX_TENSORS = 16384
"""Tensors in a frame."""
MAX_OVERHEAD = 1 << 20
"""Bytes of a message that are not tensor bytes."""
SCAN_FROM = 256 << 10
"""Bytes up to which a message may be parsed without a scan: that takes milliseconds at most, and copies little."""
LARGE_MESSAGE = 32 << 10
LARGE_TENSOR = 16 << 10
"""A message of more bytes that begins with a tensor of so many, or with a few items and then one, is scanned, too:
parsing copies each tensor twice. Of smaller tensors a message has so many that the copies take less time."""
FIRST_FIELDS = 4
"""Where that tensor is looked for."""
FRAME_BYTES = 1 << 20
"""Bytes at which a frame closes, unless a single item is larger."""

_TENSOR = 0x12  # field 2, length-delimited
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}


def frame_items(window: int) -> int:
    """The number of items at which a frame closes: an eighth of the window, so that several frames are under way.

    If one frame held everything in flight, client and server would take turns instead of working at the same time.
    """
    return min(128, max(16, window // 8))


class Frame(Protocol):
    """ClientFrame or ServerFrame."""

    @property
    def tensors(self) -> Sequence[bytes]: ...

    def ParseFromString(self, serialized: bytes) -> object: ...


F = TypeVar("F", bound=Frame)


def parse_frame(message: bytes, frame: F) -> tuple[F, Sequence[Buffer]]:
    """Parse a message into `frame`, which is empty, and its tensors.

    For a large message `frame` gets the items only, and the tensors are views that keep the message alive; so it does
    for a smaller one that has large tensors.

    Raises InvalidArgument if the message is not a frame or breaks a limit of the contract. The caller counts the items
    of a small message, which are cheap to parse.
    """
    try:
        size = len(message)
        if size <= SCAN_FROM and (size <= LARGE_MESSAGE or not _begins_large(message)):
            frame.ParseFromString(message)
            parsed = frame.tensors
            if len(parsed) > MAX_TENSORS:
                raise InvalidArgument(f"a frame holds {len(parsed)} tensors; the limit is {MAX_TENSORS}")
            tensors: Sequence[Buffer] = list(parsed)
        else:
            items, tensors = _scan(message)
            frame.ParseFromString(items)
    except (DecodeError, IndexError):
        raise InvalidArgument(f"a message of {len(message)} bytes is not a frame") from None
    return frame, tensors


def join_frame(items: bytes, tensors: Iterable[Buffer]) -> bytes:
    """The message of a frame: its serialized items, then the tensors, whose bytes are copied once."""
    parts: list[Buffer] = [items]
    for tensor in tensors:
        parts += (tensor_header(len(tensor)), tensor)
    return b"".join(parts)


@lru_cache(4096)
def tensor_header(size: int) -> bytes:
    """The bytes that precede a tensor's. Cached, because the sizes of tensors repeat."""
    return bytes((_TENSOR,)) + varint(size)


def _begins_large(message: bytes) -> bool:
    """Whether one of the first fields is a large tensor. Raises IndexError if the message ends within a key or size."""
    at = 0
    for _ in range(FIRST_FIELDS):
        if at >= len(message):
            return False
        key, at = read_varint(message, at)
        if key & 7 != _LENGTH_DELIMITED:
            return False
        size, at = read_varint(message, at)
        if key == _TENSOR:
            return size >= LARGE_TENSOR
        at += size
    return False


def _scan(message: bytes) -> tuple[bytes, list[memoryview]]:
    """Split a message into its items, still serialized, and views of its tensors.

    Counts both, and checks the limits, before anything is parsed.
    """
    view, at, end = memoryview(message), 0, len(message)
    items: list[memoryview] = []
    tensors: list[memoryview] = []
    overhead = 0
    while at < end:
        start = at
        key, at = read_varint(message, at)
        if key & 7 == _LENGTH_DELIMITED:
            size, at = read_varint(message, at)
            stop = at + size
        else:
            # A field of a later version of the contract, which protobuf skips, or bytes that it rejects.
            stop = read_varint(message, at)[1] if key & 7 == _VARINT else at + _FIXED.get(key & 7, end)
        if stop > end:
            raise InvalidArgument(f"a message of {end} bytes is not a frame")
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
