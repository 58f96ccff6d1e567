"""The shared memory regions that clients have registered: an identity has names of its own."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection, Hashable, Iterator, Sequence

from headrace.server.core.clients import Client
from headrace.server.services.oip.region import Region, open_region
from headrace.wire.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, quote

MAX_REGIONS = 1024
MAX_NAME_CHARACTERS = 255

SHARED_MEMORY_DISABLED = "this server does not allow shared memory; start it with --shared-memory"


class Descriptors:
    """How many are open for regions: more than there are names while requests hold regions that are not registered."""

    def __init__(self) -> None:
        self.open = 0
        # Connections need descriptors too.
        self.most = min(MAX_REGIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def release(self, region: Region) -> None:
        """One holder of a region lets go; the last one closes the descriptor."""
        region.holders -= 1
        if not region.holders:
            os.close(region.descriptor)
            self.open -= 1


class OwnedRegions:
    """The regions of each identity; and those of everybody who has none, who share them as with Triton."""

    def __init__(self) -> None:
        self._descriptors = Descriptors()
        self._registries: dict[str | None, RegionRegistry] = {}
        """By the names of identities."""

    def of(self, client: Hashable) -> RegionRegistry:
        """Those of the client of a call, to be used at once."""
        owner = client.name if isinstance(client, Client) else None
        registry = self._registries.get(owner)
        if registry is None:
            if len(self._registries) >= 2 * MAX_REGIONS:  # at most half of them have any
                self._registries = {name: each for name, each in self._registries.items() if len(each)}
            registry = self._registries[owner] = RegionRegistry(self._descriptors, shared=owner is not None)
        return registry

    def registered(self) -> Iterator[tuple[str | None, Region]]:
        """Every region that is registered, and the name of whose it is; None for clients without an identity."""
        for owner, registry in self._registries.items():
            for region in registry.status(""):
                yield owner, region

    def keep_only(self, names: Collection[str]) -> None:
        """Unregister the regions of identities with other names: they cannot do it themselves any more.

        Requests in flight still write to theirs.
        """
        for owner in self._registries.keys() - names - {None}:
            self._registries.pop(owner).close()

    def release(self, region: Region) -> None:
        """Undo one `acquire` of any of them."""
        self._descriptors.release(region)

    def close(self) -> None:
        for registry in self._registries.values():
            registry.close()

    def __repr__(self) -> str:
        return f"<OwnedRegions of {len(self._registries)} owners, {self._descriptors.open} descriptors>"


class RegionRegistry:
    """Regions by name.

    While a request runs, a region may be unregistered and its name registered by another client. So a request acquires
    the regions that it will write to, instead of looking up their names later.
    """

    def __init__(self, descriptors: Descriptors | None = None, *, shared: bool = False) -> None:
        """With `shared` descriptors it has no more regions than are left for all others."""
        self._regions: dict[str, Region] = {}
        self._descriptors = descriptors or Descriptors()
        self._shared = shared

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Register `byte_size` bytes at `offset` of the shared memory object `key`.

        Raises a HeadraceError that says what is wrong, and then nothing has changed.
        """
        if not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise InvalidArgument(
                f"the name of a shared memory region has {len(name)} characters; it must have 1 to "
                f"{MAX_NAME_CHARACTERS}"
            )
        if name in self._regions:
            raise FailedPrecondition(f"shared memory region {quote(name)} is already registered; unregister it first")
        if self._descriptors.open >= self._descriptors.most:
            raise ResourceExhausted(
                f"{self._descriptors.most} shared memory regions are registered or in use, which is the limit"
            )
        if self._shared and len(self) >= self._descriptors.most - self._descriptors.open:
            raise ResourceExhausted(
                f"this identity has {len(self)} shared memory regions; it may have no more than are left for all others"
            )
        self._regions[name] = open_region(name, key, offset, byte_size)
        self._descriptors.open += 1

    def unregister(self, name: str) -> None:
        """Unregister a region, or all regions if the name is empty. A region that is not registered is ignored.

        The name is free at once; requests in flight that hold the region still write to it.
        """
        for each in [name] if name else list(self._regions):
            region = self._regions.pop(each, None)
            if region is not None:
                self.release(region)

    def status(self, name: str) -> Sequence[Region]:
        """One region, or all regions if the name is empty. Raises NotFound."""
        return [self._find(name)] if name else list(self._regions.values())

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read a part of a region. Raises NotFound if it is not registered; otherwise like `Region.read`."""
        return self._find(name).read(offset, size)

    def acquire(self, name: str, offset: int, size: int) -> Region:
        """A region that stays open until `release` is called, once for each call of `acquire`.

        Raises what reading these bytes would raise.
        """
        region = self._find(name)
        region.object_offset(offset, size)
        region.holders += 1
        return region

    def release(self, region: Region) -> None:
        """Undo one `acquire`. The last release closes the descriptor."""
        self._descriptors.release(region)

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
        return f"<RegionRegistry {len(self)} regions, {nbytes} bytes, {self._descriptors.open} descriptors>"
