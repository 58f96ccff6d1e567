"""SIGTERM and SIGINT, and a way to end the process that nothing can block."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

HUNG_EXIT_CODE = 1
"""The server did not end in time."""
LAST_SECONDS = 0.5
"""How long the server may go on after the second signal."""
_FLUSH_SECONDS = 0.1
_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The first signal asks the server to stop, the second one ends the process. So does the first during start-up.

    A thread of its own waits for signals, because the main thread may be blocked: in the runtime, which loads a model,
    or in the event loop, during a long run.
    """

    def __init__(self) -> None:
        """To be called on the main thread."""
        self._stop: Callable[[int], None] | None = None
        self._stopping = threading.Event()
        self._received, self._sent = socket.socketpair()
        self._sent.setblocking(False)
        for number in _STOPPING:
            # Python writes the number to the socket only for signals that have a Python handler.
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._sent.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def serve(self, stop: Callable[[int], None], seconds: float) -> None:
        """From now on call `stop` with each signal, and end the process if it is still there `seconds` after the
        first."""
        self._stop = stop
        if seconds < threading.TIMEOUT_MAX:
            # Not when the signal comes: memory for a thread may be short then.
            threading.Thread(target=self._end_late, args=(seconds,), name="end", daemon=True).start()

    def _end_late(self, seconds: float) -> None:
        self._stopping.wait()
        time.sleep(seconds)
        leave(HUNG_EXIT_CODE)

    def _watch(self) -> None:
        first = self._next()
        if self._stop is None:
            leave(128 + first)
        self._stopping.set()
        self._stop(first)
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
    """End the process at once, whatever its threads are doing."""
    # On another thread: the lock of an output stream may be held by a thread that is stuck writing to a full pipe.
    flushing = threading.Thread(target=_flush, daemon=True)
    try:
        flushing.start()
        flushing.join(_FLUSH_SECONDS)
    finally:  # there may be no memory for a thread
        os._exit(code)


def _flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
