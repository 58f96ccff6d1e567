"""What a server has done since it began, by its own statistics. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from headrace.client.load.run import Server


class Totals(NamedTuple):
    """Successes of a model, and seconds that these took."""

    successes: int
    queue: float
    compute: float

    def since(self, before: Totals) -> Server | None:
        """Means of what was done between; None when that is nothing."""
        count = self.successes - before.successes
        if count <= 0:
            return None
        return Server(count, (self.queue - before.queue) / count, (self.compute - before.compute) / count)


AskTotals = Callable[[], Awaitable[Totals | None]]
"""Gives None where the server does not say."""


async def untold() -> Totals | None:
    return None
