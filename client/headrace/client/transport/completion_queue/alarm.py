"""A thread that wakes the event loop at a time, while it waits for gRPC's completion queue."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic

_LONGEST = 3600.0


class Alarm:
    """Calls `ring` on a thread of its own at the time that was `set`, or a little later, and then not again.

    It may ring for a time that was set before and is not needed any more: then the loop looks once in vain. So the
    thread, which sleeps, is woken only by a time that is earlier than what it sleeps for.
    """

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._due = self._sleeps_until = math.inf
        self._stopped = False
        self._changed = threading.Lock()
        """Released to end the thread's sleep."""
        self._changed.acquire()
        self._thread = threading.Thread(target=self._run, name="headrace alarm", daemon=True)
        self._thread.start()

    def set(self, due: float) -> None:
        """Ring at this time of `time.monotonic`, in place of any other."""
        self._due = due
        if due < self._sleeps_until:
            self._wake()

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        if self._changed.locked():
            self._changed.release()

    def _run(self) -> None:
        while not self._stopped:
            # In this order: what `set` changes meanwhile is seen here, or by the comparison there.
            self._sleeps_until = due = self._due
            if due != self._due:
                continue
            left = min(due - monotonic(), _LONGEST)
            if left > 0:
                self._changed.acquire(True, left)
            else:
                self._sleeps_until = -math.inf
                if self._due == due:
                    self._due = math.inf
                    self._ring()
