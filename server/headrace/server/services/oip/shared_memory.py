"""System shared memory: regions that clients register, and tensors are read from and written to.

They are never mapped: a client that shortens a mapped object would kill the server (SIGBUS). Reading and writing by
descriptor fails instead.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    quote,
)
from headrace.wire.tensors import Buffer

MAX_REGIONS = 1024
MAX_NAME = 255
"""Bytes of a key, as the file system has it, and characters of a region's name."""

_OBJECTS = "/dev/shm/"
# Without O_NONBLOCK the owner of a file could hold up the server for as long as it takes to break a lease.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(slots=True, eq=False)
class Region:
    """`byte_size` bytes from `offset` on, in a shared memory object. By its descriptor it outlives its key.

    And its name: the descriptor stays open until the last holder has let go.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int = field(repr=False)
    holders: int = field(default=1, repr=False)
    """Its registration, and requests in flight whose outputs it takes. `Regions` counts them."""

    def at(self, offset: int, size: int) -> int:
        """Where a part of the region begins in the object, as long as that is there. Raises."""
        if offset < 0 or size < 0 or offset + size > self.byte_size:
            whole = f"shared memory region {quote(self.name)} of {self.byte_size} bytes"
            raise InvalidArgument(f"{size} bytes at offset {offset} do not lie inside {whole}")
        start = self.offset + offset
        if start + size > os.fstat(self.descriptor).st_size:
            raise self._shortened()
        return start

    def read(self, offset: int, size: int) -> bytes:
        """A part of it. Raises InvalidArgument for what is not inside, FailedPrecondition when the object is shorter.

        The caller bounds `size`: an object takes no memory until it is written to.
        """
        at = self.at(offset, size)
        data = self._read(at, size)
        if len(data) == size:
            return data
        parts = [data]
        while size := size - len(data):
            at += len(data)
            data = self._read(at, size)
            parts.append(data)
        return b"".join(parts)

    def write(self, offset: int, data: Buffer) -> None:
        """Raises as `read`."""
        rest = memoryview(data)
        at = self.at(offset, len(rest))
        while rest:
            try:
                written = os.pwrite(self.descriptor, rest, at)
            except OSError:
                raise FailedPrecondition(f"shared memory region {quote(self.name)} cannot be written to") from None
            at, rest = at + written, rest[written:]

    def _read(self, at: int, size: int) -> bytes:
        """Some of the bytes; none only when none are asked for."""
        try:
            data = os.pread(self.descriptor, size, at)
        except OSError:
            raise FailedPrecondition(f"shared memory region {quote(self.name)} cannot be read") from None
        if size and not data:
            raise self._shortened()
        return data

    def _shortened(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"the object of shared memory region {quote(self.name)} is shorter than when registered"
        )


class Regions:
    """The regions of all clients, by name.

    A name may be given up and taken by another client while a request runs, so whoever will need a region later holds
    that region, not its name.
    """

    def __init__(self) -> None:
        self._regions: dict[str, Region] = {}
        self._open = 0
        """Descriptors: more than there are names while a region is held that is no longer registered."""
        # Connections need descriptors too.
        self._most = min(MAX_REGIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Raises what is wrong with it; then nothing has changed."""
        if not 0 < len(name) <= MAX_NAME:
            raise InvalidArgument(f"a shared memory region is named by 1 to {MAX_NAME} characters, not {len(name)}")
        if name in self._regions:
            raise FailedPrecondition(f"shared memory region {quote(name)} is registered already; unregister it first")
        if self._open >= self._most:
            raise ResourceExhausted(f"{self._most} shared memory regions are registered or in use; no more are taken")
        if offset < 0 or byte_size < 1:
            wanted = "it takes an offset from 0 on and at least one byte"
            raise InvalidArgument(
                f"shared memory region {quote(name)} has {byte_size} bytes at offset {offset}; {wanted}"
            )
        descriptor = _open(key)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgument(f"{quote(key)} is no shared memory object")
            if offset + byte_size > status.st_size:
                wanted = f"{byte_size} bytes at offset {offset} are not there for region {quote(name)}"
                raise InvalidArgument(f"shared memory object {quote(key)} has {status.st_size} bytes: {wanted}")
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[name] = Region(name, key, offset, byte_size, descriptor)
        self._open += 1

    def unregister(self, name: str) -> None:
        """All when the name is empty. A region that is not registered is ignored.

        The name is free at once; requests in flight that hold the region still write to it.
        """
        for each in [name] if name else list(self._regions):
            region = self._regions.pop(each, None)
            if region is not None:
                self.let_go(region)

    def status(self, name: str) -> Sequence[Region]:
        """All when the name is empty. Raises NotFound."""
        return [self._find(name)] if name else list(self._regions.values())

    def read(self, region: str, offset: int, size: int) -> bytes:
        """A part of a region. Raises NotFound for one that is not registered, and as `Region.read`."""
        return self._find(region).read(offset, size)

    def hold(self, region: str, offset: int, size: int) -> Region:
        """The region, open until `let_go` is called for it, once for each time. Raises as reading this part would."""
        found = self._find(region)
        found.at(offset, size)
        found.holders += 1
        return found

    def let_go(self, region: Region) -> None:
        """The last to let go closes the descriptor."""
        region.holders -= 1
        if not region.holders:
            os.close(region.descriptor)
            self._open -= 1

    def close(self) -> None:
        self.unregister("")

    def _find(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"there is no shared memory region {quote(name)}")
        return region

    def __len__(self) -> int:
        return len(self._regions)

    def __repr__(self) -> str:
        nbytes = sum(region.byte_size for region in self._regions.values())
        return f"<Regions {len(self)}, {nbytes} bytes, {self._open} descriptors>"


def _open(key: str) -> int:
    """The descriptor of whatever has this key."""
    name = key.removeprefix("/")
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > MAX_NAME:
        raise InvalidArgument(f"{quote(key)} is no key of shared memory: one name, behind a slash or not")
    try:
        return os.open((_OBJECTS + name).encode(), _FLAGS)
    except FileNotFoundError:
        raise NotFound(f"there is no shared memory object {quote(key)}") from None
    except PermissionError:
        raise PermissionDenied(f"this server may not read and write shared memory object {quote(key)}") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise ResourceExhausted("this server has no file descriptor left for shared memory") from None
        raise InvalidArgument(f"{quote(key)} is no shared memory object") from None


class SharedMemoryRpcs:
    """`regions` None: shared memory is not allowed."""

    def __init__(self, regions: Regions | None) -> None:
        self._regions = regions

    async def status(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        found = self._regions.status(request.name) if self._regions is not None else ()
        return pb.SystemSharedMemoryStatusResponse(regions={region.name: _status(region) for region in found})

    async def register(self, request: pb.SystemSharedMemoryRegisterRequest) -> pb.SystemSharedMemoryRegisterResponse:
        self._allowed().register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._allowed().unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _allowed(self) -> Regions:
        if self._regions is None:
            raise PermissionDenied("this server takes no shared memory; start it with --shared-memory")
        return self._regions


def _status(region: Region) -> pb.SystemSharedMemoryStatusResponse.RegionStatus:
    return pb.SystemSharedMemoryStatusResponse.RegionStatus(
        name=region.name, key=region.key, offset=region.offset, byte_size=region.byte_size
    )
