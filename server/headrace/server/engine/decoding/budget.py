"""The memory that decoding may take, of all threads and models together."""

from __future__ import annotations

import threading
from collections import deque


class Budget:
    """Whoever needs memory takes all of it at once, and in turn: so nobody waits for those that wait for him.

    What is more than everything there is waits until it has everything.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._used = 0
        self._changed = threading.Condition()
        self._turns: deque[object] = deque()

    def take(self, nbytes: int, cancelled: threading.Event) -> int:
        """Wait for this much. Returns what to give back; -1 if `cancelled` was set meanwhile (see `look`)."""
        nbytes = min(nbytes, self._nbytes)
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while self._turns[0] is not turn or self._used + nbytes > self._nbytes:
                    if cancelled.is_set():
                        return -1
                    self._changed.wait()
                self._used += nbytes
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()
        return nbytes

    def give_back(self, nbytes: int) -> None:
        if nbytes > 0:
            with self._changed:
                self._used -= nbytes
                self._changed.notify_all()

    def look(self) -> None:
        """Let those that wait look whether they were cancelled."""
        with self._changed:
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"<Budget {self._used} of {self._nbytes} bytes, {len(self._turns)} wait>"
