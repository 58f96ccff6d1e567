"""What each of several workers gets of what one server may have: limits, memory and processors.

All get the same, so that they decide alike: what is found out about a model holds for each of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from headrace.server.engine.compilation import Compilation
from headrace.server.process_memory import available_bytes
from headrace.server.processors import available_processors, scheduled_processors
from headrace.server.repository.scan import FoundModel, FoundVersion
from headrace.server.repository.source import SourceError
from headrace.server.settings import MIN_MEMORY, Settings

_TOTALS = ("streams", "queue_bytes", "keep_bytes_total", "sequences", "sequence_bytes")
"""The options that are limits of the whole server, beside those below."""
NO_SEQUENCES = "sequences are not served by several workers: the requests of one could come to different ones"


def share(total: int, count: int) -> int:
    """A part of a limit, rounded up: 0, which is no limit, stays 0."""
    return -(-total // count)


def share_of_settings(settings: Settings, count: int) -> Settings:
    """The options of one of `count` workers. Limits of a stream stay as they are; those of identities are divided where
    they are read."""
    totals: dict[str, Any] = {name: share(getattr(settings, name), count) for name in _TOTALS}
    memory = max(MIN_MEMORY, (settings.memory or available_bytes() // 2) // count)
    return replace(
        settings,
        **totals,
        memory=memory,
        max_queue=share(settings.max_queue, count),
    )


@dataclass(frozen=True, slots=True)
class Processors:
    """`most` is how many each worker may use. `pinned` has, for each, those that it is to stay on; or is empty.

    Where a worker gets only one, or what remains is not the same for all, they may all run anywhere: whichever
    processor is idle then takes the next of them.
    """

    most: int
    pinned: tuple[frozenset[int], ...] = ()

    @classmethod
    def divided(cls, count: int) -> Processors:
        """Those of this process, among `count` workers."""
        most = max(1, available_processors() // count)
        each, rest = divmod(scheduled_processors(), count)
        if each < 2 or rest or not hasattr(os, "sched_getaffinity"):
            return cls(most)
        ids = sorted(os.sched_getaffinity(0))
        return cls(most, tuple(frozenset(ids[each * i : each * (i + 1)]) for i in range(count)))

    @property
    def threads(self) -> int:
        """How many threads the runtime is told to use; 0 if it finds that out by itself."""
        return 0 if self.pinned and len(self.pinned[0]) == self.most else self.most


def share_of_model(found: FoundModel, count: int, threads: int) -> FoundModel:
    """A model as one of `count` workers loads it."""
    versions: dict[int, FoundVersion] = {}
    problems = dict(found.problems)
    for number, each in found.versions.items():
        compilation = each.model.compilation
        if compilation.state == "sequence":
            problems[number] = SourceError(f"model {found.name!r}: {NO_SEQUENCES}", NO_SEQUENCES)
        else:
            versions[number] = replace(each, model=replace(each.model, compilation=_share(compilation, count, threads)))
    return replace(found, versions=versions, problems=problems)


def _share(compilation: Compilation, count: int, threads: int) -> Compilation:
    return replace(
        compilation,
        slots=share(compilation.slots, count),
        max_queue=None if compilation.max_queue is None else share(compilation.max_queue, count),
        threads=threads,
    )
