"""Decodes a ModelInferRequest into the core's terms."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from headrace.server.core.admission import wrong_size
from headrace.server.core.calls import Plan
from headrace.server.services.api import View
from headrace.server.services.oip.description_cache import DescriptionCache
from headrace.server.services.oip.descriptions import Description, MemoryRange, OutputOptions, parse_description
from headrace.server.services.oip.messages import RequestParts
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.server.services.oip.region_registry import SHARED_MEMORY_DISABLED, OwnedRegions, RegionRegistry
from headrace.server.services.oip.typed_contents import contents_to_bytes
from headrace.wire.errors import InvalidArgument, PermissionDenied, ResourceExhausted
from headrace.wire.tensors import Buffer

MAX_CACHED_DESCRIPTION_BYTES = 16 << 10
"""Larger descriptions are not cached."""


@dataclass(slots=True)
class Request:
    """A decoded request. `nbytes` is the size of the inputs that are not part of the message.

    `outputs` are the description's, each with its region, which `RequestReader.release` releases.
    """

    description: Description
    inline: Sequence[Buffer]
    options: Options
    nbytes: int
    outputs: Sequence[OutputOptions] = ()


class RequestReader:
    """Reads requests, and caches descriptions by their bytes.

    `regions` is None if shared memory is not allowed. `view` has the models, and the limits for what is read from
    there.
    """

    def __init__(self, regions: OwnedRegions | None, view: View) -> None:
        self._regions = regions
        self._view = view
        self._descriptions: DescriptionCache[bytes, Description] = DescriptionCache(view.accounts.caches)

    def read(self, parts: RequestParts, client: Hashable) -> Request:
        """Decode a request of a client and acquire the regions of its outputs. Raises HeadraceError."""
        if parts.error is not None:
            raise parts.error
        options = read_options(parts.parameters) if parts.parameters else NO_OPTIONS
        data = parts.description
        description = self._descriptions.get(data)
        if description is None:
            description = parse_description(data, has_raw_contents=bool(parts.raw))
            if description.typed is None and len(data) <= MAX_CACHED_DESCRIPTION_BYTES:
                self._descriptions.put(data, description, description.nbytes + len(data))
        raw = parts.raw
        if description.plain and len(raw) == len(description.input_memory):
            return Request(description, raw, options, 0)
        inline, nbytes = self._inline(description, raw, client)
        return Request(description, inline, options, nbytes, self._acquire(description.outputs, client))

    def release(self, outputs: Sequence[OutputOptions]) -> None:
        """Release the regions of a request that has been answered, or that will not be."""
        for options in outputs:
            if options.region is not None:
                assert self._regions is not None
                self._regions.release(options.region)

    def _acquire(self, outputs: Sequence[OutputOptions], client: Hashable) -> Sequence[OutputOptions]:
        """The same options with their regions. This precedes the run, which would be in vain without a region."""
        acquired: list[OutputOptions] = []
        try:
            for options in outputs:
                memory = options.memory
                if memory is None:
                    acquired.append(options)
                else:
                    region = self._regions_of(client).acquire(memory.region, memory.offset, memory.nbytes)
                    acquired.append(replace(options, region=region))
        except BaseException:
            self.release(acquired)
            raise
        return acquired

    def _inline(
        self, description: Description, raw: Sequence[Buffer], client: Hashable
    ) -> tuple[Sequence[Buffer], int]:
        """The data of each input, and how many bytes were read from shared memory.

        Data are converted or read only once the model is known, and takes as much.
        """
        input_memory = description.input_memory
        if description.typed is not None:
            plan = self._bind(description)
            return [*map(contents_to_bytes, plan.inline, description.typed)], 0
        if not any(input_memory):
            if not raw:
                # Without raw contents every input lacks its data. The core's error names the first one.
                return [b""] * len(input_memory), 0
            _check_count(raw, len(input_memory))
            return raw, 0
        _check_count(raw, sum(memory is None for memory in input_memory))
        regions, plan = self._regions_of(client), self._bind(description)
        nbytes = self._check_sizes(plan, input_memory)
        remaining = iter(raw)
        inline = [
            next(remaining) if memory is None else regions.read(memory.region, memory.offset, memory.nbytes)
            for memory in input_memory
        ]
        return inline, nbytes

    def _bind(self, description: Description) -> Plan:
        """Raises what the core would raise on admission."""
        return self._view.models.bind(description.defined)[1]

    def _check_sizes(self, plan: Plan, input_memory: Sequence[MemoryRange | None]) -> int:
        """The bytes to read from shared memory: what the model takes, and at most as much as a message may hold."""
        nbytes = 0
        for bound, memory in zip(plan.inline, input_memory, strict=True):
            if memory is not None:
                nbytes += memory.nbytes
                if memory.nbytes != bound.nbytes and bound.nbytes is not None:
                    raise wrong_size(bound, memory.nbytes)
        most = self._view.limits.max_message_bytes
        if nbytes > most:
            raise InvalidArgument(f"the inputs in shared memory take {nbytes} bytes; like a message, at most {most}")
        if nbytes and not self._view.accounts.queue.fits(nbytes):
            raise ResourceExhausted(
                f"the inputs in shared memory take {nbytes} bytes, more than is left of the server's quota for inputs"
            )
        return nbytes

    def _regions_of(self, client: Hashable) -> RegionRegistry:
        if self._regions is None:
            raise PermissionDenied(SHARED_MEMORY_DISABLED)
        return self._regions.of(client)


def _check_count(raw: Sequence[Buffer], expected: int) -> None:
    if len(raw) != expected:
        raise InvalidArgument(
            f"the request has {len(raw)} raw_input_contents for {expected} inputs that are not in shared memory"
        )
