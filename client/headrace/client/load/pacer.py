"""Waits until each request is due, precisely and without lowering the rate."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable

Now = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

BURST = 16
"""After so many moments that had passed already, everything else in the loop has its turn."""
SHORTEST, LONGEST = 50e-6, 500e-6
"""Bounds of the stretch before a moment that is not slept through, in seconds."""
FORGET = 0.9
"""How much of that stretch is kept after a sleep that would have needed less."""


class Pacer:
    """Tells when a moment has come. A sleep takes longer than was asked for, by up to a millisecond and more, so it
    ends a stretch early, and the loop turns until the moment; the stretch is learnt from the sleeps themselves.

    A moment that has passed is given at once, and none is ever left out: who is late knows it by the moment.
    """

    def __init__(self, now: Now = time.perf_counter, sleep: Sleep = asyncio.sleep) -> None:
        self.now = now
        self._sleep = sleep
        self._stretch = SHORTEST
        self._burst = 0

    async def until(self, moment: float) -> None:
        """Return when `now()` has reached the moment, never before."""
        ahead = moment - self.now()
        if ahead <= 0:
            await self.breathe()
            return
        self._burst = 0
        asked = ahead - self._stretch
        if asked > 0:
            await self._sleep(asked)
            overslept = self._stretch - (moment - self.now())
            self._stretch = min(max(overslept, self._stretch * FORGET, SHORTEST), LONGEST)
        while self.now() < moment:
            await self._sleep(0)

    async def breathe(self) -> None:
        """To be called often by who has something to do all the time."""
        self._burst += 1
        if self._burst >= BURST:
            self._burst = 0
            await self._sleep(0)


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop that sleeps to some 0.1 ms, so that little is spent on turning; asyncio's own rounds every sleep up
    to a whole millisecond. It is for few file descriptors: gRPC keeps its own, and shows the loop only one.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
