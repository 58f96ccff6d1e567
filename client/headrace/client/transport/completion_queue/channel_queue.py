"""A channel of gRPC's, and the queue in which the events of its calls come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc

from headrace.client.transport.completion_queue.cython_layer import (
    Batch,
    CoreCall,
    Event,
    Metadata,
    Operation,
    cancel_call,
    close_channel,
    new_channel,
    receive_status,
    start_call,
)

logger = logging.getLogger(__name__)
_abandoned: list[ChannelQueue] = []
"""Those that have lost an event. gRPC would wait for it for ever."""


class ChannelQueue:
    """Belongs to the thread of an event loop, but for `wake`.

    Each batch has one event, whose tag `handle` calls. Waiting for the next event has no end of its own; what ends it
    from another thread is an empty batch on a call that is never sent.
    """

    def __init__(self, target: str, options: Iterable[tuple[str, Any]], credentials: grpc.ChannelCredentials | None):
        self._channel = new_channel(target, options, credentials)
        self._next_event = self._channel.next_call_event
        self._pending = 1
        """Batches whose event is still to come."""
        self._wakes: set[Callable[[Event], None]] = set()
        """Tags of wake-ups whose event is still to come."""
        self._has_lost = False
        self.closed = False
        self._idle = start_call(self._channel, "/headrace/Wake", None, (), [((receive_status(),), _nothing)])

    def start(self, method: str, deadline: float | None, metadata: Metadata, *batches: Batch) -> CoreCall:
        """Start a call with some batches. Raises ValueError."""
        call = start_call(self._channel, method, deadline, metadata, batches)
        self._pending += len(batches)
        return call

    def operate(self, call: CoreCall, operations: Sequence[Operation], tag: Callable[[Event], None]) -> bool:
        """Start one more batch. Returns False if the call is over, so that there is no event."""
        if not call.operate(operations, tag):
            return False
        self._pending += 1
        return True

    def take(self) -> Event:
        """Wait for the next event, which is to be handled. Raises MemoryError if it got lost."""
        try:
            return self._next_event()
        except MemoryError:
            self._has_lost = True
            raise

    def handle(self, event: Event) -> None:
        """Call the tag of an event."""
        self._pending -= 1
        try:
            event.tag(event)
        except Exception:
            logger.exception("an event of gRPC could not be handled")

    def wake(self, tag: Callable[[], None]) -> None:
        """Have `tag` called with an event that somebody waits for, or will; on any thread. Not after `close`."""

        def woken(_event: Event) -> None:
            self._wakes.discard(woken)
            self._pending += 1  # `handle` has counted an event that is not counted here, on another thread
            tag()

        if not self.closed:
            self._wakes.add(woken)
            if not self._idle.operate((), woken):
                self._wakes.discard(woken)

    def state(self, *, try_to_connect: bool) -> int:
        """One of gRPC's states, by its number."""
        return self._channel.check_connectivity_state(try_to_connect)

    def close(self) -> None:
        """Take the last events. Whoever has calls has cancelled them, so that these come at once."""
        self.closed = True
        cancel_call(self._idle)
        try:
            while (self._pending or self._wakes) and not self._has_lost:
                self.handle(self.take())
        except MemoryError:
            pass
        if self._has_lost:
            _abandoned.append(self)
        else:
            close_channel(self._channel)

    def __repr__(self) -> str:
        return f"<ChannelQueue: {self._pending} batches>"


def _nothing(_event: Event) -> None:
    pass
