"""Chooses the caller for the next request of an open loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from headrace.client.load.callers.caller import Caller


class CallerPicker:
    """Picks the caller with the fewest requests in flight, at most `window` each.

    Among equals, the one that has been at that number for longest is picked. Callers are grouped by their number in
    flight, so that a choice costs the same for one caller and for a thousand.
    """

    def __init__(self, callers: Sequence[Caller], window: int) -> None:
        self.callers = callers
        self._window = window
        self._in_flight = [0] * len(callers)
        self._by_in_flight = [OrderedDict.fromkeys(range(len(callers)))]
        self._fewest = 0
        self._released: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return self._fewest == self._window

    async def acquire(self) -> int:
        """The index of a caller, to be passed to `release`. Waits while all are full; only one task may wait."""
        while self.full:
            self._released = asyncio.get_running_loop().create_future()
            await self._released
        index, _ = self._by_in_flight[self._fewest].popitem(last=False)
        self._regroup(index, self._fewest + 1)
        if not self._by_in_flight[self._fewest]:
            self._fewest += 1
        return index

    def release(self, index: int) -> None:
        in_flight = self._in_flight[index]
        del self._by_in_flight[in_flight][index]
        self._regroup(index, in_flight - 1)
        self._fewest = min(self._fewest, in_flight - 1)
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    def _regroup(self, index: int, in_flight: int) -> None:
        if in_flight == len(self._by_in_flight):
            self._by_in_flight.append(OrderedDict())
        self._by_in_flight[in_flight][index] = None
        self._in_flight[index] = in_flight

    def __repr__(self) -> str:
        return f"<CallerPicker: {sum(self._in_flight)} of {self._window * len(self._in_flight)} in flight>"
