"""Decodes a ModelInferRequest into the core's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.server.core.quotas import Quota
from headrace.server.services.oip.descriptions import Description, OutputOptions, parse_description
from headrace.server.services.oip.messages import RequestParts
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.server.services.oip.region_registry import SHARED_MEMORY_DISABLED, RegionRegistry
from headrace.wire.errors import InvalidArgument, PermissionDenied, ResourceExhausted
from headrace.wire.lru import LruCache
from headrace.wire.tensors import Buffer

MAX_CACHED_DESCRIPTIONS = 1024
MAX_CACHED_BYTES = 8 << 20
"""The memory for cached descriptions."""
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

    `regions` is None if shared memory is not allowed. `input_quota` limits the bytes that are read from there.
    """

    def __init__(self, regions: RegionRegistry | None, input_quota: Quota) -> None:
        self._regions = regions
        self._input_quota = input_quota
        self._descriptions: LruCache[bytes, Description] = LruCache(MAX_CACHED_DESCRIPTIONS, MAX_CACHED_BYTES)

    def read(self, parts: RequestParts) -> Request:
        """Decode a request and acquire the regions of its outputs. Raises HeadraceError."""
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
        nbytes = sum([memory.nbytes for memory in description.input_memory if memory is not None])
        if nbytes and not self._input_quota.fits(nbytes):
            raise ResourceExhausted(
                f"the inputs in shared memory take {nbytes} bytes, more than is left of the server's quota for inputs"
            )
        return Request(description, self._inline(description, raw), options, nbytes, self._acquire(description.outputs))

    def release(self, outputs: Sequence[OutputOptions]) -> None:
        """Release the regions of a request that has been answered, or that will not be."""
        for options in outputs:
            if options.region is not None:
                self._allowed().release(options.region)

    def _acquire(self, outputs: Sequence[OutputOptions]) -> Sequence[OutputOptions]:
        """The same options with their regions. This precedes the run, which would be in vain without a region."""
        acquired: list[OutputOptions] = []
        try:
            for options in outputs:
                memory = options.memory
                if memory is None:
                    acquired.append(options)
                else:
                    region = self._allowed().acquire(memory.region, memory.offset, memory.nbytes)
                    acquired.append(replace(options, region=region))
        except BaseException:
            self.release(acquired)
            raise
        return acquired

    def _inline(self, description: Description, raw: Sequence[Buffer]) -> Sequence[Buffer]:
        """The data of each input."""
        if description.typed is not None:
            return description.typed
        input_memory = description.input_memory
        if not any(input_memory):
            if not raw:
                # Without raw contents every input lacks its data. The core's error names the first one.
                return [b""] * len(input_memory)
            _check_count(raw, len(input_memory))
            return raw
        _check_count(raw, sum(memory is None for memory in input_memory))
        remaining = iter(raw)
        regions = self._allowed()
        return [
            next(remaining) if memory is None else regions.read(memory.region, memory.offset, memory.nbytes)
            for memory in input_memory
        ]

    def _allowed(self) -> RegionRegistry:
        if self._regions is None:
            raise PermissionDenied(SHARED_MEMORY_DISABLED)
        return self._regions


def _check_count(raw: Sequence[Buffer], expected: int) -> None:
    if len(raw) != expected:
        raise InvalidArgument(
            f"the request has {len(raw)} raw_input_contents for {expected} inputs that are not in shared memory"
        )
