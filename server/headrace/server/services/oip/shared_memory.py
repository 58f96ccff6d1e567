"""The RPCs that register, unregister and list regions of system shared memory."""

from __future__ import annotations

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.region import Region
from headrace.server.services.oip.region_registry import SHARED_MEMORY_DISABLED, RegionRegistry
from headrace.wire.errors import PermissionDenied


class SharedMemoryRpcs:
    """`regions` is None if shared memory is not allowed."""

    def __init__(self, regions: RegionRegistry | None) -> None:
        self._regions = regions

    async def status(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        regions = self._regions.status(request.name) if self._regions is not None else ()
        return pb.SystemSharedMemoryStatusResponse(regions={region.name: _status(region) for region in regions})

    async def register(self, request: pb.SystemSharedMemoryRegisterRequest) -> pb.SystemSharedMemoryRegisterResponse:
        self._allowed().register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._allowed().unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _allowed(self) -> RegionRegistry:
        if self._regions is None:
            raise PermissionDenied(SHARED_MEMORY_DISABLED)
        return self._regions


def _status(region: Region) -> pb.SystemSharedMemoryStatusResponse.RegionStatus:
    return pb.SystemSharedMemoryStatusResponse.RegionStatus(
        name=region.name, key=region.key, offset=region.offset, byte_size=region.byte_size
    )
