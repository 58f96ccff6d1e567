"""Looking for messages a little longer before the event loop sleeps.

A processor that goes to sleep takes 50 us and more to wake up, on a virtual machine above all, and a message wakes two
threads one after the other. Whoever sends one small inference after the other pays for that each time: with 200 us of
polling the round trip of a small model took 1.2 times as long as a plain echo's, without 2.1 to 2.4 times.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from time import perf_counter


class PollingSelector(selectors.DefaultSelector):
    """`seconds`: how long to poll before sleeping. `worthwhile`: whether nobody else needs the processor."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.worthwhile: Callable[[], bool] = lambda: True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._seconds and (timeout is None or timeout > 0) and self.worthwhile():
            began = perf_counter()
            polling = self._seconds if timeout is None else min(self._seconds, timeout)
            while (spent := perf_counter() - began) < polling:
                if ready := super().select(0):
                    return ready
            if timeout is not None:
                timeout -= spent
        return super().select(timeout)
