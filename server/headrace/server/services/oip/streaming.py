"""`ModelStreamInfer`: one response for each request, in the order of the requests."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from headrace.server.core.admission import MAX_NAME_CHARACTERS
from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import LARGE_REQUEST, Call
from headrace.server.services.observing import UNOBSERVED, Observers, undelivered
from headrace.server.services.oip.descriptions import OutputOptions
from headrace.server.services.oip.inference import miss_step, read_request, submit
from headrace.server.services.oip.messages import named_model, split_request
from headrace.server.services.oip.requests import RequestReader
from headrace.server.services.oip.responses import ResponseWriter, stream_error, stream_response
from headrace.server.services.session import Session
from headrace.server.services.single import UNLIMITED_BYTES
from headrace.wire.errors import HeadraceError, forget_frames


class _Pending(NamedTuple):
    """A request that has no response yet."""

    tag: int
    id: bytes
    outputs: Sequence[OutputOptions]


STREAM = "inference.GRPCInferenceService/ModelStreamInfer"


class StreamInferRpc:
    def __init__(
        self,
        streams: Streams,
        requests: RequestReader,
        responses: ResponseWriter,
        observers: Observers = UNOBSERVED,
    ) -> None:
        self._streams = streams
        self._observers = observers
        self._requests = requests
        self._responses = responses

    async def stream(self, call: Call) -> None:
        """Handle a call."""
        session = _RequestSession(self._streams, self._requests, self._responses, call, self._observers)
        try:
            await session.run()
        finally:
            session.release()


class _RequestSession(Session):
    """Its clients do not know of a window, so reading pauses while a full window of requests is unanswered."""

    def __init__(
        self, streams: Streams, requests: RequestReader, responses: ResponseWriter, call: Call, observers: Observers
    ) -> None:
        handle = streams.open(call.client, unary=True, window=streams.view.limits.window)
        super().__init__(handle, call, STREAM, observers, LARGE_REQUEST)
        self._handle.submit(_open)
        self._streams = streams
        self._requests = requests
        self._responses = responses
        self._tags = itertools.count(1)
        self._pending: deque[_Pending] = deque()
        self._ended: dict[int, Event] = {}
        """Terminal events of pending requests by tag. Those of refused requests come before it is their turn."""
        self._ready: deque[tuple[_Pending, Event]] = deque()
        """Those whose turn it is, in order."""
        self._new: Sequence[Event] = ()
        """The events of those that have just come to it."""
        self._acquired: dict[int, Sequence[OutputOptions]] = {}
        """Output options, by tag, whose regions are released when the request is answered."""
        self._full = False
        """Whether reading waits, because the window is full."""
        self._classified = False
        """Whether the last response took its time."""
        self._errors_end_call = ("triton_grpc_error", "true") in call.metadata()

    def release(self) -> None:
        """Release the regions of requests that will not be answered."""
        while self._acquired:
            self._requests.release(self._acquired.popitem()[1])

    def submit(self, message: bytes) -> None:
        self._handle.submit(self._submit, next(self._tags), message)

    def next_message(self) -> bytes | None:
        while not self._ready:
            if not self._take_ready():
                return None
        pending, event = self._ready.popleft()
        self._classified = bool(pending.outputs)
        message = self._encode(pending, event)
        if self._observed:
            self._observe(pending, event)
        return message

    def message_follows(self) -> bool:
        return bool(self._ready) and not self._classified

    def write_began(self) -> None:
        if self._new:
            new, self._new = self._new, ()
            self._handle.handed_off(new)

    def write_ended(self) -> None:
        if not self._ready:
            self._handle.flushed()

    def write_turn(self) -> asyncio.Future[None] | None:
        if not self._classified:
            return None
        # Classes take time: others have their turn between two responses.
        self._classified = False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turn.set_result(None)
        return turn

    def wait_until_readable(self) -> bool:
        self._full = len(self._pending) >= self._handle.window
        return self._full

    def _observe(self, pending: _Pending, event: Event) -> None:
        if isinstance(event, Done) and self._log.samples:
            self._log.done(self._call, STREAM, event, pending.id)
        if self._traces is not None:
            self._traces.taken((event,), pending.id)

    def _submit(self, core: Commands, stream: Stream, now: float, tag: int, message: bytes) -> None:
        parts = split_request(message)
        outputs: Sequence[OutputOptions] = ()
        if self._traces is not None:
            self._traces.begin_only(tag, now)
        try:
            request = read_request(self._streams, self._requests, parts, self._call.client)
            if outputs := request.outputs:
                self._acquired[tag] = outputs
            submit(core, stream, now, tag, request, len(message))
        except HeadraceError as error:
            name, version = named_model(parts)
            self._streams.request_failed(name, version, error)
            core.reject(stream, error, tag, model=name[:MAX_NAME_CHARACTERS])
            if parts.parameters:
                miss_step(core, stream, now, parts, error)
        self._pending.append(_Pending(tag, parts.id, outputs))

    def _take_ready(self) -> bool:
        """Take the pending requests whose turn it is, with their events. Returns False if there are no events."""
        pending, ended = self._pending, self._ended
        events = self._handle.take()
        if not events:
            return False
        for event in events:
            ended[event.tag] = event
        while pending and pending[0].tag in ended:
            first = pending.popleft()
            self._ready.append((first, ended.pop(first.tag)))
        self._new = [event for _, event in self._ready]
        if not self._new:
            self._handle.handed_off(())
            self._handle.flushed()
        elif self._full:
            self._full = False
            self.read_on()
        return True

    def _encode(self, pending: _Pending, event: Event) -> bytes | None:
        """The response to a request. None if it is an error that ends the call."""
        try:
            if isinstance(event, Failed):
                raise event.error
            assert isinstance(event, Done)
            return stream_response(self._responses.write(event, pending.id, pending.outputs))
        except Exception as error:
            to_send = error if isinstance(error, HeadraceError) else self._streams.incident(error)
            failed = event if isinstance(event, Failed) else undelivered(event, to_send)
            self._log.failed(self._call, STREAM, failed, pending.id)
            forget_frames(error)  # this one refers to the event, and that to the error
            if self._errors_end_call:
                self._call.reported = True
                self.fail(to_send)
                return None
            return stream_error(to_send, pending.id)
        finally:
            if pending.outputs:
                self._requests.release(self._acquired.pop(pending.tag))


def _open(core: Commands, stream: Stream, _now: float) -> None:
    core.open(stream, ordered=True, max_message_bytes=UNLIMITED_BYTES)
