"""Waits until each request is due, precisely and without lowering the rate."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from headrace.client.transport.event_loops import queue_loop

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

YIELD_EVERY = 16
"""After this many moments that had already passed, the rest of the event loop gets a turn."""
MIN_SPIN_SECONDS, MAX_SPIN_SECONDS = 50e-6, 500e-6
"""Bounds of the spin: the time before a moment that is not slept through."""
SPIN_DECAY = 0.9
"""How much of the spin is kept after a sleep that would have needed less."""


class Pacer:
    """Waits for moments of a clock.

    A sleep takes up to a millisecond or more longer than asked. So the pacer sleeps until shortly before the moment and
    spins the event loop for the rest; how long to spin is learnt from how late the sleeps return.

    A moment that has passed is returned at once, and none is skipped: the caller sees from the moment how late it is.
    """

    def __init__(
        self,
        now: Clock = time.perf_counter,
        sleep: Sleep = asyncio.sleep,
        idle: Clock = time.perf_counter,
        used: Clock = time.process_time,
    ) -> None:
        self.now = now
        self.idle = idle
        """A clock that runs only while the event loop has nothing to do."""
        self.used = used
        """A clock that runs only while this process has a processor."""
        self._mark = used()
        self._sleep = sleep
        self._spin = MIN_SPIN_SECONDS
        self._since_yield = 0

    async def wait_until(self, moment: float) -> None:
        """Return when `now()` has reached the moment, never before."""
        ahead = moment - self.now()
        if ahead <= 0:
            await self.maybe_yield()
            return
        self._since_yield = 0
        asked = ahead - self._spin
        if asked > 0:
            await self._sleep(asked)
            overslept = self._spin - (moment - self.now())
            self._spin = min(max(overslept, self._spin * SPIN_DECAY, MIN_SPIN_SECONDS), MAX_SPIN_SECONDS)
        while self.now() < moment:
            self.mark()
            await self._sleep(0)

    def mark(self) -> None:
        """Begin to measure what `used_since_mark` gives. Waiting until a moment moves the mark towards it."""
        self._mark = self.used()

    def used_since_mark(self) -> float:
        """How many seconds of a processor this process has used."""
        return self.used() - self._mark

    async def maybe_yield(self) -> None:
        """Yield to the event loop every few calls. A loop that never waits otherwise must call this often."""
        self._since_yield += 1
        if self._since_yield >= YIELD_EVERY:
            self._since_yield = 0
            await self._sleep(0)


class IdleTiming(Protocol):
    """An event loop that says how long it has had nothing to do so far."""

    def idle_seconds(self) -> float: ...


def new_precise_loop(channels: int) -> asyncio.SelectorEventLoop:
    """A loop whose sleeps are exact, and which is `IdleTiming`.

    It polls gRPC itself where it can: for one channel, so that with several it does not, and all are alike.
    """
    loop = queue_loop() if channels == 1 else None
    return PreciseEventLoop() if loop is None else loop


class PreciseEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleeps are exact to about 0.1 ms, so that little time is spent spinning.

    The default loop rounds every sleep up to a whole millisecond. This one is for few file descriptors: gRPC polls its
    own and shows the loop only one.
    """

    def __init__(self) -> None:
        self._idle_selector = _IdleTimingSelector()
        super().__init__(self._idle_selector)

    def idle_seconds(self) -> float:
        """How long it has had nothing to do so far."""
        return self._idle_selector.seconds


class _IdleTimingSelector(selectors.SelectSelector):
    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        begun = time.perf_counter()
        try:
            return super().select(timeout)
        finally:
            self.seconds += time.perf_counter() - begun
