"""What a server has done for a model since it started, by its own statistics. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from headrace.client.load.record.run import ServerMeans


class ModelTotals(NamedTuple):
    """The number of successes, and the seconds they spent in the queue and computing, in total."""

    successes: int
    queue: float
    compute: float

    def since(self, before: ModelTotals) -> ServerMeans | None:
        """The means of what was done in between; None if that is nothing."""
        count = self.successes - before.successes
        if count <= 0:
            return None
        return ServerMeans(count, (self.queue - before.queue) / count, (self.compute - before.compute) / count)


ReadTotals = Callable[[], Awaitable[ModelTotals | None]]
"""Reads the totals from a server; None if it does not keep statistics."""


async def no_totals() -> ModelTotals | None:
    return None
