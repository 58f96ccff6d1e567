"""What waits for the completion queue of a channel, and for all that an event loop waits for besides.

Without a channel it is Python's own selector. With one, `select` waits for the events of the channel, and calls their
tags itself. Two threads sleep meanwhile, and wake it through the queue: one for file descriptors, and one for timers.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from time import monotonic

from headrace.client.transport.completion_queue.alarm import Alarm
from headrace.client.transport.completion_queue.channel_queue import ChannelQueue
from headrace.polling.descriptors import DescriptorWatcher

Ready = list[tuple[selectors.SelectorKey, int]]

LOOK_SECONDS = 0.0001
"""How often a loop that has other work to do looks for events. A look takes two events of its own."""
MAX_EVENTS = 64
"""Events that are handled in one look,"""
TURN_SECONDS = 0.002
"""and the time after which no further one is."""

logger = logging.getLogger(__name__)


class QueueSelector(selectors.DefaultSelector):
    """`select` waits for the queue of the channel that is attached, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: ChannelQueue | None = None
        self._watcher: DescriptorWatcher | None = None
        self._alarm: Alarm | None = None
        self._descriptors_ready = self._handled = False
        self._lock = threading.RLock()  # a signal's handler may wake a loop that is being woken by its own thread
        self._woken = self._marked = False
        self._looked = 0.0
        self.idle_seconds = 0.0
        """How long it has waited, because there was nothing to do."""
        self._process = os.getpid()

    @property
    def attached(self) -> bool:
        return self._queue is not None

    def attach(self, queue: ChannelQueue) -> None:
        """Poll this queue from now on, until it is detached."""
        assert self._queue is None
        if self._watcher is None:
            self._watcher = DescriptorWatcher(self.fileno(), self._on_descriptors)
            self._alarm = Alarm(self.wake)
        with self._lock:
            self._queue = queue
            self._woken = self._marked = False

    def detach(self, queue: ChannelQueue) -> None:
        """On the thread of the loop, which looks at what is ready before it waits again."""
        with self._lock:
            if self._queue is queue:
                self._queue = None

    def wake(self) -> bool:
        """End the `select` that is in progress, or the next one; on any thread. Returns False without a channel."""
        if self._woken and self._queue is not None:
            return True  # its event is still to come, and the loop then sees all that was done before
        with self._lock:
            if self._queue is None:
                return False
            self._woken = True
            self._queue.wake(self._on_woken)
            return True

    def select(self, timeout: float | None = None) -> Ready:
        queue = self._queue
        if queue is None:
            begun = monotonic()
            try:
                return super().select(timeout)
            finally:
                self.idle_seconds += monotonic() - begun
        if self._handled and self._watcher is not None:
            self._handled = False
            self._watcher.resume()
        try:
            now = monotonic()
            if timeout is None or timeout > 0:
                # An event that is still to come ends the wait. If a signal has cut off a wake-up, there is none.
                self._woken = False
                if timeout is not None and self._alarm is not None:
                    self._alarm.set(now + timeout)
                event = queue.take()
                self._looked = monotonic()
                self.idle_seconds += self._looked - now
                queue.handle(event)
            elif now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._look(queue, now + TURN_SECONDS)
        except MemoryError:
            # It may have been the event of a wake-up, without which nothing would wake the loop again.
            self._woken = self._marked = False
            logger.warning("there was no memory for what gRPC has received")
        if self._descriptors_ready:
            self._descriptors_ready = False
            self._handled = True
            return super().select(0)
        return []

    def close(self) -> None:
        if self._process == os.getpid():  # a forked child has no threads
            if self._watcher is not None:
                self._watcher.close()
            if self._alarm is not None:
                self._alarm.close()
        super().close()

    def _look(self, queue: ChannelQueue, until: float) -> None:
        """Handle the events that are there: those that come before one that is put there now."""
        if not self._marked:
            self._marked = True
            queue.wake(self._on_mark)
        left = MAX_EVENTS
        while left and self._is_marked():
            queue.handle(queue.take())
            left -= 1
            if monotonic() > until:
                break

    def _is_marked(self) -> bool:
        return self._marked

    def _on_mark(self) -> None:
        self._marked = False

    def _on_woken(self) -> None:
        self._woken = False

    def _on_descriptors(self) -> None:
        """Called on the thread of the watcher."""
        self._descriptors_ready = True
        self.wake()
