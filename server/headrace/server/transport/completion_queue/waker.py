"""Wakes the event loop from another thread."""

from __future__ import annotations

import threading

from headrace.server.transport.completion_queue.cython_layer import CoreCall, Event


class Waker:
    """Ends a `poll` of the queue in which the batches of `call` end.

    An empty batch ends at once, on any call, whether its client is there or not: it takes 5 us.
    """

    def __init__(self, call: CoreCall) -> None:
        self._call = call
        self._lock = threading.RLock()  # a signal's handler may wake a loop that is being woken by its own thread
        self._woken = self._closed = False

    def wake(self) -> None:
        """End the poll that is in progress, or the next one; on any thread. Has no effect after `close`."""
        if self._woken:  # its event is still to come, and the loop then sees all that was done before
            return
        with self._lock:
            if not self._closed:
                self._woken = True
                self._call.start_server_batch((), self._ended)

    def lost(self) -> None:
        """An event of the queue got lost, perhaps that of `wake`: without it nothing would wake the loop again."""
        self._woken = False

    def close(self) -> None:
        """To be called before the queue is shut down."""
        with self._lock:
            self._closed = True

    def _ended(self, _event: Event) -> None:
        self._woken = False
