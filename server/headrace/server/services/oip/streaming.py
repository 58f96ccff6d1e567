"""`ModelStreamInfer`: one response for each request, in the order of the requests."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import LARGE_REQUEST, Call
from headrace.server.services.eager import EagerCoroutine
from headrace.server.services.oip.descriptions import OutputOptions
from headrace.server.services.oip.inference import miss_step, read_request, submit
from headrace.server.services.oip.messages import split_request
from headrace.server.services.oip.requests import RequestReader
from headrace.server.services.oip.responses import ResponseWriter, stream_error, stream_response
from headrace.server.services.reader import reader_task
from headrace.server.services.single import UNLIMITED_BYTES
from headrace.wire.errors import HeadraceError


class _Pending(NamedTuple):
    """A request that has no response yet."""

    tag: int
    id: bytes
    outputs: Sequence[OutputOptions]


class StreamInferRpc:
    def __init__(self, streams: Streams, requests: RequestReader, responses: ResponseWriter) -> None:
        self._streams = streams
        self._requests = requests
        self._responses = responses

    async def stream(self, call: Call) -> None:
        """Handle a call: write until the stream has ended, while a task of its own reads."""
        session = _Session(self._streams, self._requests, self._responses, call)
        try:
            async with reader_task(session.handle, session.read()):
                await session.write()
                if session.error is not None:
                    raise session.error
        finally:
            session.release()


class _Session:
    """One call of the RPC.

    Its clients do not know of a window, so reading pauses while a full window of requests is unanswered. If a request
    is done right after it was read, the reader writes its response before it reads on, which saves a turn of the event
    loop.
    """

    def __init__(self, streams: Streams, requests: RequestReader, responses: ResponseWriter, call: Call) -> None:
        self.handle = streams.open(call.peer(), unary=True, window=streams.view.limits.window)
        self.handle.submit(_open)
        self.error: HeadraceError | None = None
        """The error that ends the call, if its client wants errors to end it."""
        self._streams = streams
        self._requests = requests
        self._responses = responses
        self._call = call
        self._pending: deque[_Pending] = deque()
        self._ended: dict[int, Event] = {}
        """Terminal events of pending requests by tag. Those of refused requests come before it is their turn."""
        self._acquired: dict[int, Sequence[OutputOptions]] = {}
        """Output options, by tag, whose regions are released when the request is answered."""
        self._writing = asyncio.Lock()
        self._answered: asyncio.Future[None] | None = None
        """The reader waits for this while the window is full."""
        self._errors_end_call = ("triton_grpc_error", "true") in call.metadata()

    async def read(self) -> None:
        """Submit requests until the client half-closes or the stream has ended."""
        handle, read, end = self.handle, self._call.read, self._call.end
        # The read of the next message is already pending while a request runs.
        next_message = EagerCoroutine(read())
        try:
            for tag in itertools.count(1):
                while len(self._pending) >= handle.window:
                    self._answered = asyncio.get_running_loop().create_future()
                    await self._answered
                more_arrived = next_message.ready
                message = await next_message
                if handle.ended:
                    return
                if message is end:
                    handle.half_close()
                    return
                if len(message) >= LARGE_REQUEST and (turn := self._call.turn()) is not None:
                    await turn
                    if handle.ended:
                        return
                next_message = EagerCoroutine(read())
                handle.submit(self._submit, tag, message)
                if handle.has_events and not (more_arrived or self._writing.locked()):
                    await self._write_ready()
        finally:
            next_message.cancel()

    async def write(self) -> None:
        """Write responses until the stream has ended. `error` is then set if an error has ended it."""
        while await self.handle.wait_for_events():
            await self._write_ready()
        async with self._writing:
            # The reader may be writing the last responses.
            pass

    def release(self) -> None:
        """Release the regions of requests that will not be answered."""
        while self._acquired:
            self._requests.release(self._acquired.popitem()[1])

    def _submit(self, core: Commands, stream: Stream, now: float, tag: int, message: bytes) -> None:
        parts = split_request(message)
        outputs: Sequence[OutputOptions] = ()
        try:
            request = read_request(self._streams, self._requests, parts)
            if outputs := request.outputs:
                self._acquired[tag] = outputs
            submit(core, stream, now, tag, request, len(message))
        except HeadraceError as error:
            core.reject(stream, error, tag)
            if parts.parameters:
                miss_step(core, stream, now, parts, error)
        self._pending.append(_Pending(tag, parts.id, outputs))

    async def _write_ready(self) -> None:
        """Write the responses whose turn it is."""
        handle = self.handle
        async with self._writing:
            while events := handle.take():
                for event in events:
                    self._ended[event.tag] = event
                ready = self._take_ready()
                handle.handed_off([event for _, event in ready])
                for pending, event in ready:
                    message = self._encode(pending, event)
                    if self.error is not None:
                        handle.close()
                        return
                    await self._call.write(message)
                    if pending.outputs:
                        # Classes take time: others have their turn between two responses.
                        await asyncio.sleep(0)
                handle.flushed()

    def _take_ready(self) -> list[tuple[_Pending, Event]]:
        """Take the pending requests whose turn it is, with their events."""
        ready: list[tuple[_Pending, Event]] = []
        while self._pending and self._pending[0].tag in self._ended:
            pending = self._pending.popleft()
            ready.append((pending, self._ended.pop(pending.tag)))
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        return ready

    def _encode(self, pending: _Pending, event: Event) -> bytes:
        """The response to a request. Sets `error` if it is an error that ends the call."""
        try:
            if isinstance(event, Failed):
                raise event.error
            assert isinstance(event, Done)
            return stream_response(self._responses.write(event, pending.id, pending.outputs))
        except Exception as error:
            to_send = error if isinstance(error, HeadraceError) else self._streams.incident(error)
            if self._errors_end_call:
                self.error = to_send
            return stream_error(to_send, pending.id)
        finally:
            if pending.outputs:
                self._requests.release(self._acquired.pop(pending.tag))


def _open(core: Commands, stream: Stream, _now: float) -> None:
    core.open(stream, ordered=True, max_message_bytes=UNLIMITED_BYTES)
