"""SIGTERM and SIGINT, and an end of the process that nothing holds up."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

HUNG = 1
"""The exit code of a server that did not end in its time."""
LAST_SECONDS = 0.5
"""From the second signal to the end."""
_FLUSH_SECONDS = 0.1
_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The first signal asks the server to stop, the second one ends the process. So does the first, while it starts.

    A thread of its own waits for them, because the main thread may be anywhere: in the runtime, which loads a model, or
    in an event loop that a run holds up.
    """

    def __init__(self) -> None:
        """From the main thread."""
        self._stop: Callable[[int], None] | None = None
        self._seconds = 0.0
        self._received, told = socket.socketpair()
        told.setblocking(False)
        for number in _STOPPING:
            # Something must be there for Python to note the number where the thread waits.
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        self._error_for = told
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def serve(self, stop: Callable[[int], None], seconds: float) -> None:
        """Call `stop` from now on, with each signal; within so many seconds of the first the process is gone."""
        self._seconds = seconds
        self._stop = stop

    def _watch(self) -> None:
        first = self._next()
        if self._stop is None:
            leave(128 + first)
        self._stop(first)
        if self._seconds < threading.TIMEOUT_MAX:
            late = threading.Timer(self._seconds, leave, (HUNG,))
            late.daemon = True
            late.start()
        second = self._next()
        self._stop(second)
        time.sleep(LAST_SECONDS)
        leave(128 + second)

    def _next(self) -> int:
        while True:
            (number,) = self._received.recv(1)
            if number in _STOPPING:
                return number


def leave(code: int) -> NoReturn:
    """End the process here and now, whatever its threads do."""
    # Not by this thread: the lock of a stream may be held by one that writes to a pipe nobody reads.
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
