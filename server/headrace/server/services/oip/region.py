"""A region of system shared memory, which tensors are read from and written to.

Regions are never mapped: a client that shrinks a mapped object would kill the server (SIGBUS). Reads and writes through
a descriptor fail instead.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from headrace.wire.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    quote,
)
from headrace.wire.tensors import Buffer

MAX_KEY_BYTES = 255
"""The file system's limit."""

_DIRECTORY = "/dev/shm/"
# Without O_NONBLOCK the owner of a file could hold up the server for as long as it takes to break a lease.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(slots=True, eq=False)
class Region:
    """`byte_size` bytes of a shared memory object, starting at `offset`.

    The region keeps the object open by its descriptor, so it outlives the object's key and its own name. It is closed
    when its last holder releases it.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int = field(repr=False)
    holders: int = field(default=1, repr=False)
    """Its registration, and the requests in flight whose outputs go here. Only `RegionRegistry` changes this."""

    def object_offset(self, offset: int, size: int) -> int:
        """The offset, within the object, of `size` bytes at `offset` of this region.

        Raises InvalidArgument for bytes outside the region, FailedPrecondition if the object has become too small.
        """
        if offset < 0 or size < 0 or offset + size > self.byte_size:
            region = f"shared memory region {quote(self.name)} of {self.byte_size} bytes"
            raise InvalidArgument(f"{size} bytes at offset {offset} do not lie inside {region}")
        start = self.offset + offset
        if start + size > os.fstat(self.descriptor).st_size:
            raise self._shrunk()
        return start

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`. Raises InvalidArgument and FailedPrecondition like `object_offset`.

        The caller must bound `size`: an object takes no memory until it is written to, so it may be of any size.
        """
        at = self.object_offset(offset, size)
        data = self._read_some(at, size)
        if len(data) == size:
            return data
        parts = [data]
        while size := size - len(data):
            at += len(data)
            data = self._read_some(at, size)
            parts.append(data)
        return b"".join(parts)

    def write(self, offset: int, data: Buffer) -> None:
        """Write `data` at `offset`. Raises InvalidArgument and FailedPrecondition like `object_offset`."""
        rest = memoryview(data)
        at = self.object_offset(offset, len(rest))
        while rest:
            try:
                written = os.pwrite(self.descriptor, rest, at)
            except OSError:
                raise FailedPrecondition(f"shared memory region {quote(self.name)} cannot be written") from None
            at, rest = at + written, rest[written:]

    def _read_some(self, at: int, size: int) -> bytes:
        """Read between 1 and `size` bytes, or none if `size` is 0."""
        try:
            data = os.pread(self.descriptor, size, at)
        except OSError:
            raise FailedPrecondition(f"shared memory region {quote(self.name)} cannot be read") from None
        if size and not data:
            raise self._shrunk()
        return data

    def _shrunk(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"the object of shared memory region {quote(self.name)} has shrunk since the region was registered"
        )


def open_region(name: str, key: str, offset: int, byte_size: int) -> Region:
    """Open the shared memory object `key`, and return a region of it.

    Raises InvalidArgument, NotFound, PermissionDenied or ResourceExhausted, and then nothing stays open.
    """
    if offset < 0 or byte_size < 1:
        raise InvalidArgument(
            f"shared memory region {quote(name)} has {byte_size} bytes at offset {offset}; the size must be at least "
            "1, and the offset must not be negative"
        )
    descriptor = _open(key)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(f"{quote(key)} is not a shared memory object")
        if offset + byte_size > status.st_size:
            raise InvalidArgument(
                f"shared memory object {quote(key)} has {status.st_size} bytes; region {quote(name)} needs {byte_size} "
                f"bytes at offset {offset}"
            )
    except BaseException:
        os.close(descriptor)
        raise
    return Region(name, key, offset, byte_size, descriptor)


def _open(key: str) -> int:
    """Open the file of a key, which need not be a shared memory object. Returns its descriptor."""
    name = key.removeprefix("/")
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > MAX_KEY_BYTES:
        raise InvalidArgument(
            f"{quote(key)} is not a valid shared memory key: a key is one name, with or without a leading slash"
        )
    try:
        return os.open((_DIRECTORY + name).encode(), _FLAGS)
    except FileNotFoundError:
        raise NotFound(f"there is no shared memory object {quote(key)}") from None
    except PermissionError:
        raise PermissionDenied(f"the server may not read and write shared memory object {quote(key)}") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise ResourceExhausted("the server has no file descriptors left for shared memory") from None
        raise InvalidArgument(f"{quote(key)} is not a shared memory object") from None
