"""An event loop that polls gRPC's completion queue: what gRPC does is done on its thread, without another one between.

`select` waits for events of the queue, and calls their tags itself. File descriptors are watched by a thread meanwhile,
which wakes the queue; in a server that is only the pipe through which signals wake asyncio.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from headrace.polling.descriptors import DescriptorWatcher
from headrace.server.dispatcher.event_loop import PollingLoop, PollingSelector, Ready
from headrace.server.transport.completion_queue.cython_layer import SHUTDOWN, TIMEOUT, CoreCall, Event, Queue
from headrace.server.transport.completion_queue.waker import Waker

MAX_WAIT = 0.15
"""Seconds that a poll may take. Its deadline is a time of day, which may be set back meanwhile: grpcio looks again
after 0.2 s, and would wait longer by as much."""
ROUNDING = 0.001
"""Seconds by which gRPC rounds deadlines up."""
MAX_EVENTS = 64
"""Events of the queue that are handled in a turn of the loop,"""
TURN_SECONDS = 0.002
"""and the time after which no further one is."""
DRAIN_SECONDS = 1.0
"""How long the end of the queue may take."""

logger = logging.getLogger(__name__)
_abandoned: list[Queue] = []
"""Queues that did not end: destroying one of them would wait for ever."""


class CompletionQueueSelector(PollingSelector):
    """`call` is one whose batches end in `queue`; see `cython_layer.open_queue`."""

    def __init__(self, queue: Queue, call: CoreCall, poll_seconds: float) -> None:
        super().__init__(poll_seconds)
        self.queue = queue
        self._poll: Callable[[float], Event] = queue.poll
        self._waker = Waker(call)
        self.wake = self._waker.wake
        self.when_empty: set[Callable[[], None]] = set()
        """Called when all events that have come are handled. While there are any, `select` does not wait."""
        self._watcher: DescriptorWatcher | None = None
        self._descriptors_ready = self._handled = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        if self._watcher is None:
            self._watcher = DescriptorWatcher(self.fileno(), self._on_descriptors)
        return key

    def close(self) -> None:
        """Also ends the queue. Its events are not handled any more."""
        self._waker.close()
        if self._watcher is not None:
            self._watcher.close()
        super().close()
        self.queue.shutdown()
        until = monotonic() + DRAIN_SECONDS
        while self._poll(time() + MAX_WAIT).completion_type != SHUTDOWN:
            if monotonic() > until:
                _abandoned.append(self.queue)
                break

    def _look(self, timeout: float | None) -> Ready | None:
        if self._handled and self._watcher is not None:
            self._handled = False
            self._watcher.resume()
        try:
            if not self._handle_events(timeout):
                return None
        except MemoryError:
            self._waker.lost()
            logger.warning("there was no memory for what gRPC has received")
        if self._descriptors_ready:
            self._descriptors_ready = False
            self._handled = True
            return super()._look(0) or []
        return []

    def _handle_events(self, timeout: float | None) -> bool:
        """Wait for events, and handle a few. Returns False if nothing has happened."""
        poll = self._poll
        at_once = self.when_empty or (timeout is not None and timeout <= 0)
        event = poll(0.0) if at_once else self._next_event(timeout)
        if event.completion_type == TIMEOUT:
            return self._tell_empty()
        until, left = monotonic() + TURN_SECONDS, MAX_EVENTS
        while event.completion_type != TIMEOUT:
            try:
                event.tag(event)
            except Exception:
                logger.exception("an event of gRPC could not be handled")
            left -= 1
            if not left or monotonic() > until:
                break
            event = poll(0.0)
        else:
            self._tell_empty()
        return True

    def _tell_empty(self) -> bool:
        """All events are handled. Returns whether anybody was to be told."""
        told = tuple(self.when_empty)
        for each in told:
            try:
                each()
            except Exception:
                logger.exception("%r has failed", each)
        return bool(told)

    def _next_event(self, timeout: float | None) -> Event:
        """The next event, within some seconds; None is without limit."""
        poll = self._poll
        if timeout is None:
            while (event := poll(time() + MAX_WAIT)).completion_type == TIMEOUT:
                pass
            return event
        until = monotonic() + timeout
        while True:
            left = min(timeout, MAX_WAIT)
            event = poll(time() + (left - ROUNDING if left > ROUNDING else left))
            if event.completion_type != TIMEOUT or (timeout := until - monotonic()) <= ROUNDING:
                return event

    def _on_descriptors(self) -> None:
        """Called on the thread of the watcher."""
        self._descriptors_ready = True
        self.wake()


class CompletionQueueLoop(PollingLoop):
    """Other threads wake it through the queue rather than through its pipe and the thread that watches that."""

    def __init__(self, selector: CompletionQueueSelector) -> None:
        self._wake = selector.wake
        super().__init__(selector)

    def _write_to_self(self) -> None:
        self._wake()
