"""`headrace.v1.Inference/Stream`: frames of commands in, frames of events out, no queue between except the core's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.server.core.events import Done, Event, Failed
from headrace.server.services.api import StreamHandle, Streams
from headrace.server.services.call import Call
from headrace.server.services.native.commands import apply_commands
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.native.layouts import Layouts
from headrace.server.services.observing import Observers
from headrace.server.services.session import Session

LARGE_FRAME = 512
"""Bytes from which frames wait for their turn: that many may be 40 commands, and take 0.4 ms."""

STREAM = "headrace.v1.Inference/Stream"


class StreamRpc:
    def __init__(self, streams: Streams, observers: Observers) -> None:
        self._streams = streams
        self._observers = observers
        self._layout_quota = streams.view.accounts.caches

    async def stream(self, call: Call) -> None:
        """Handle a call."""
        log = self._observers.log

        def failed(event: Failed) -> None:
            log.failed(call, STREAM, event)

        encoder = Encoder(Layouts(self._layout_quota), failed)
        try:
            await _FrameSession(self._streams.open(call.client), call, self._observers, encoder).run()
        finally:
            encoder.close()


class _FrameSession(Session):
    def __init__(self, handle: StreamHandle, call: Call, observers: Observers, encoder: Encoder) -> None:
        super().__init__(handle, call, STREAM, observers, LARGE_FRAME)
        self._encoder = encoder
        self._wrote_large = False
        """Whether the frame that was written last was large: the next one may be, too."""
        self._events: Sequence[Event] = ()
        """Those of the frame that is being written."""

    def submit(self, message: bytes) -> None:
        self._handle.submit(apply_commands, message, self._traces)

    def next_message(self) -> bytes | None:
        self._events = self._handle.take()
        if not self._events:
            return None
        message = self._encoder.encode(self._events)
        if self._observed:
            self._observe(self._events)
        self._wrote_large = len(message) >= LARGE_FRAME
        return message

    def write_began(self) -> None:
        self._handle.handed_off(self._events)

    def write_ended(self) -> None:
        self._handle.flushed()

    def wait_until_readable(self) -> bool:
        if self._handle.may_read or self._handle.ended:
            return False
        self._handle.on_readable = self.read_on
        return True

    def _observe(self, events: Sequence[Event]) -> None:
        if self._log.samples:
            for event in events:
                if type(event) is Done:
                    self._log.done(self._call, STREAM, event)
        if self._traces is not None:
            self._traces.taken(events)

    def write_turn(self) -> asyncio.Future[None] | None:
        return self._call.turn() if self._wrote_large and self._handle.has_events else None
