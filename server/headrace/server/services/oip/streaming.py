"""`ModelStreamInfer`: a response for each request, in their order."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import Call
from headrace.server.services.eager import EagerCoroutine
from headrace.server.services.oip.inference import check_sequence, submit
from headrace.server.services.oip.messages import RequestParts, split_request
from headrace.server.services.oip.requests import OutputOptions, Request, Requests
from headrace.server.services.oip.responses import Responses, failure, in_stream
from headrace.server.services.reading import reading
from headrace.server.services.single import ANY_SIZE
from headrace.wire.errors import HeadraceError


class _Pending(NamedTuple):
    """A request without an answer."""

    tag: int
    id: bytes
    outputs: Sequence[OutputOptions]


class StreamInferRpc:
    def __init__(self, streams: Streams, requests: Requests, responses: Responses) -> None:
        self._streams = streams
        self._requests = requests
        self._responses = responses

    async def stream(self, call: Call) -> None:
        """Writes until the stream has ended, while a task of its own reads."""
        session = _Session(self._streams, self._requests, self._responses, call)
        try:
            async with reading(session.handle, session.read()):
                await session.write()
                if session.failed is not None:
                    raise session.failed
        finally:
            session.let_go()


class _Session:
    """A stream. Its clients know no window, so reading pauses while that many requests are unanswered.

    What is done at once is answered by the reader, before it reads on; that saves a turn of the event loop.
    """

    def __init__(self, streams: Streams, requests: Requests, responses: Responses, call: Call) -> None:
        self.handle = streams.open(unary=True, window=streams.view.limits.window)
        self.handle.submit(_open)
        self.failed: HeadraceError | None = None
        """What the call ends with, if errors end it."""
        self._streams = streams
        self._requests = requests
        self._responses = responses
        self._call = call
        self._pending: deque[_Pending] = deque()
        self._ended: dict[int, Event] = {}
        """By tag: terminal events of pending requests that came before their turn, as refusals do."""
        self._held: dict[int, Sequence[OutputOptions]] = {}
        """By tag: outputs that may hold regions, until the request is answered."""
        self._answering = asyncio.Lock()
        self._answered: asyncio.Future[None] | None = None
        """The reader waits for this while too many requests are pending."""
        self._ends_at_errors = ("triton_grpc_error", "true") in call.metadata()

    async def read(self) -> None:
        handle, read, end = self.handle, self._call.read, self._call.end
        # The next message arrives while one is run: it is asked for in advance.
        ahead = EagerCoroutine(read())
        try:
            for tag in itertools.count(1):
                while len(self._pending) >= handle.window:
                    self._answered = asyncio.get_running_loop().create_future()
                    await self._answered
                more_arrived = ahead.ready
                message = await ahead
                if handle.ended:
                    return
                if message is end:
                    handle.half_close()
                    return
                ahead = EagerCoroutine(read())
                handle.submit(self._submit, tag, message)
                if handle.has_events and not (more_arrived or self._answering.locked()):
                    await self._answer()
        finally:
            ahead.cancel()

    async def write(self) -> None:
        """Until the stream has ended; an error may end it."""
        while await self.handle.changed():
            await self._answer()
        async with self._answering:
            # The reader may be writing the last answers.
            pass

    def let_go(self) -> None:
        """Let go of the regions of requests that will not be answered."""
        while self._held:
            self._requests.let_go(self._held.popitem()[1])

    def _submit(self, core: Commands, stream: Stream, now: float, tag: int, message: bytes) -> None:
        parts = split_request(message)
        outputs: Sequence[OutputOptions] = ()
        try:
            request = self._read(parts)
            if outputs := request.outputs:
                self._held[tag] = outputs
            check_sequence(self._streams.view.models, request)
            submit(core, stream, now, tag, request, len(message))
        except HeadraceError as error:
            core.reject(stream, error, tag)
        self._pending.append(_Pending(tag, parts.id, outputs))

    def _read(self, parts: RequestParts) -> Request:
        """Raises HeadraceError only: an unexpected error fails this request, and nothing has been admitted yet."""
        try:
            return self._requests.read(parts)
        except HeadraceError:
            raise
        except Exception as error:
            raise self._streams.incident(error) from None

    async def _answer(self) -> None:
        """Write the answers whose turn has come."""
        handle = self.handle
        async with self._answering:
            while events := handle.take():
                for event in events:
                    self._ended[event.tag] = event
                answers = self._take_turns()
                handle.handed_off([event for _, event in answers])
                for pending, event in answers:
                    message = self._message(pending, event)
                    if self.failed is not None:
                        handle.close()
                        return
                    await self._call.write(message)
                handle.flushed()

    def _take_turns(self) -> list[tuple[_Pending, Event]]:
        """The pending requests whose turn has come, with their events."""
        answers: list[tuple[_Pending, Event]] = []
        while self._pending and self._pending[0].tag in self._ended:
            pending = self._pending.popleft()
            answers.append((pending, self._ended.pop(pending.tag)))
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        return answers

    def _message(self, pending: _Pending, event: Event) -> bytes:
        """The answer to a request; sets `failed` where an error ends the stream."""
        try:
            if isinstance(event, Failed):
                raise event.error
            assert isinstance(event, Done)
            return in_stream(self._responses.write(event, pending.id, pending.outputs))
        except Exception as error:
            known = error if isinstance(error, HeadraceError) else self._streams.incident(error)
            if self._ends_at_errors:
                self.failed = known
            return failure(known, pending.id)
        finally:
            if pending.outputs:
                self._requests.let_go(self._held.pop(pending.tag))


def _open(core: Commands, stream: Stream, _now: float) -> None:
    core.open(stream, ordered=True, max_message_bytes=ANY_SIZE)
