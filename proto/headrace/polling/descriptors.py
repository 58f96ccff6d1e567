"""A thread that watches file descriptors while the event loop waits for the completion queue."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable


class DescriptorWatcher:
    """Calls `ready` on a thread of its own when one of the descriptors of a selector is ready, then waits for `resume`.

    It knows only the descriptor of the selector (epoll and kqueue have one, which is readable when one of theirs is),
    so that the loop changes its descriptors and asks which are ready as if there were no thread.
    """

    def __init__(self, selector: int, ready: Callable[[], None]) -> None:
        self._selector = selector
        self._ready = ready
        self._resumed = threading.Semaphore(0)
        self._stopped = False
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="descriptors", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """What was ready has been handled."""
        self._resumed.release()

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        os.write(self._stop_write, b"x")
        self._resumed.release()
        self._thread.join()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._selector, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while True:
            poll.poll()
            if self._stopped:
                return
            self._ready()
            self._resumed.acquire()
