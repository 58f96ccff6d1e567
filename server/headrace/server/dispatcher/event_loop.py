"""The event loop, looking for messages a little longer before it sleeps.

A processor that goes to sleep takes 50 us and more to wake up, on a virtual machine above all, and a message wakes two
threads one after the other. Whoever sends one small inference after the other pays for that each time: with 200 us of
polling the round trip of a small model took 1.2 times as long as a plain echo's, without 2.1 to 2.4 times.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from os import sched_yield
from time import monotonic, perf_counter
from typing import Protocol

_Ready = list[tuple[selectors.SelectorKey, int]]


class Watcher(Protocol):
    """Somebody whom it concerns that the event loop has nothing to do."""

    def waits_for_clients(self) -> bool:
        """Whether nothing runs on another thread, which would need the processor."""

    def idle_after(self) -> float:
        """Seconds of that until `quiet` should be called; infinity for never."""

    def idle(self) -> None: ...


class PollingSelector(selectors.DefaultSelector):
    """`seconds`: how long to poll before sleeping."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._passed = False
        """The loop had something to do, and so nothing was looked for."""
        self.watcher: Watcher | None = None

    def select(self, timeout: float | None = None) -> _Ready:
        if timeout is not None and timeout <= 0:
            # A message that has come is read in one turn and seen to in the next one: each second look is enough.
            self._passed = not self._passed
            return [] if self._passed else super().select(0)
        watcher = self.watcher
        if watcher is None:
            return self._wait(timeout, polling=True)
        idle_after = watcher.idle_after()
        if timeout is not None and timeout <= idle_after:
            return self._wait(timeout, polling=watcher.waits_for_clients())
        ready = self._wait(None if idle_after == math.inf else idle_after, polling=watcher.waits_for_clients())
        if not ready and idle_after < math.inf:
            watcher.idle()
        return ready

    def _wait(self, timeout: float | None, *, polling: bool) -> _Ready:
        if self._seconds and polling:
            began = perf_counter()
            most = self._seconds if timeout is None else min(self._seconds, timeout)
            while (spent := perf_counter() - began) < most:
                if ready := super().select(0):
                    return ready
                sched_yield()  # to the threads that bring the message
            if timeout is not None:
                timeout -= spent
        return super().select(timeout)


class PollingLoop(asyncio.SelectorEventLoop):
    """Its time is asked for eight times for each message."""

    time = staticmethod(monotonic)
