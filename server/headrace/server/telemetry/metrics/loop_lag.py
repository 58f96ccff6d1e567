"""How late the event loop is: what is due waits for whatever it is doing."""

from __future__ import annotations

import asyncio
from collections import deque

from headrace.server.core.counts import Histogram

INTERVAL_SECONDS = 0.25
RECENT = 20
"""Measurements of which the longest is told: those of five seconds."""
BOUNDS = (1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The loop rounds what is due up to the next millisecond."""


class LoopLag:
    """Measures the loop that it is made on, from then until `close`."""

    def __init__(self) -> None:
        self.seconds = Histogram(BOUNDS)
        self._last: deque[float] = deque(maxlen=RECENT)
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle
        self._wait()

    def _wait(self) -> None:
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._on_time)

    def _on_time(self) -> None:
        late = max(0.0, self._loop.time() - self._due)
        self.seconds.add(late, 1)
        self._last.append(late)
        self._wait()

    def longest(self) -> float:
        """Of the last five seconds, what is late at the moment included."""
        return max(*self._last, self._loop.time() - self._due, 0.0)

    def close(self) -> None:
        self._timer.cancel()

    def __repr__(self) -> str:
        return f"<LoopLag {self.seconds!r}>"
