"""The RPCs that register, unregister and list regions of system shared memory."""

from __future__ import annotations

from collections.abc import Hashable

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.region import Region
from headrace.server.services.oip.region_registry import SHARED_MEMORY_DISABLED, OwnedRegions, RegionRegistry
from headrace.wire.errors import PermissionDenied


class SharedMemoryRpcs:
    """`regions` is None if shared memory is not allowed. A client sees and changes its own regions only."""

    def __init__(self, regions: OwnedRegions | None) -> None:
        self._regions = regions

    async def status(
        self, request: pb.SystemSharedMemoryStatusRequest, client: Hashable
    ) -> pb.SystemSharedMemoryStatusResponse:
        regions = self._regions.of(client).status(request.name) if self._regions is not None else ()
        return pb.SystemSharedMemoryStatusResponse(regions={region.name: _status(region) for region in regions})

    async def register(
        self, request: pb.SystemSharedMemoryRegisterRequest, client: Hashable
    ) -> pb.SystemSharedMemoryRegisterResponse:
        self._of(client).register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, client: Hashable
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._of(client).unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _of(self, client: Hashable) -> RegionRegistry:
        if self._regions is None:
            raise PermissionDenied(SHARED_MEMORY_DISABLED)
        return self._regions.of(client)


def _status(region: Region) -> pb.SystemSharedMemoryStatusResponse.RegionStatus:
    return pb.SystemSharedMemoryStatusResponse.RegionStatus(
        name=region.name, key=region.key, offset=region.offset, byte_size=region.byte_size
    )
