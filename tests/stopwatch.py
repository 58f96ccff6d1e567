"""How long something takes while the machine runs."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

TICK_SECONDS = 0.01


class Stopwatch:
    """`with Stopwatch() as watch`, or the fixture: `ran()` leaves out the time in which this process got no processor.

    A machine that is shared stands still for a second or two now and then, which breaks any close bound of wall time. A
    thread that sleeps for a tick at a time notes how late it wakes; that is the time in which nothing ran.

    An upper bound is for `ran()`. A lower bound is for `elapsed()`, since timers go on while the machine stands still.
    Code that holds the GIL looks like a pause: where that is the point, measure it in another way.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="stopwatch", daemon=True)
        self._ticked = time.monotonic(), 0.0
        """When the thread woke last, and how late it has woken by then, all in all: in seconds."""
        self.start()

    def start(self) -> None:
        self._began = time.monotonic()
        self._late_before = self._late(self._began)
        self.latest = 0.0
        """How late the thread has woken since the start, at most: in seconds."""

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def ran(self) -> float:
        """Seconds since the start in which this process could run."""
        now = time.monotonic()
        return now - self._began - (self._late(now) - self._late_before)

    def _late(self, now: float) -> float:
        woken, late = self._ticked
        return late + max(0.0, now - woken - TICK_SECONDS)

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            now = time.monotonic()
            late = self._late(now)
            self.latest = max(self.latest, late - self._ticked[1])
            self._ticked = now, late

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
