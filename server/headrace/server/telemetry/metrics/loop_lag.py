"""How late the event loop is: what is due waits for whatever it is doing."""

from __future__ import annotations

import asyncio

from headrace.server.core.counts import Histogram

INTERVAL_SECONDS = 0.25
BOUNDS = (1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The loop rounds what is due up to the next millisecond."""


class LoopLag:
    """Measures the loop that it is made on, from then until `close`."""

    def __init__(self) -> None:
        self.seconds = Histogram(BOUNDS)
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle
        self._wait()

    def _wait(self) -> None:
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._on_time)

    def _on_time(self) -> None:
        self.seconds.add(max(0.0, self._loop.time() - self._due), 1)
        self._wait()

    def close(self) -> None:
        self._timer.cancel()

    def __repr__(self) -> str:
        return f"<LoopLag {self.seconds!r}>"
