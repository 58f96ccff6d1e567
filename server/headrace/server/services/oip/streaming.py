"""`ModelStreamInfer`: a response for each request, in their order."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import grpc

from headrace.server.core.events import Done, Event, Failed
from headrace.server.services.api import Desk
from headrace.server.services.eager import EagerCoroutine
from headrace.server.services.oip.inference import submit
from headrace.server.services.oip.messages import Pieces
from headrace.server.services.oip.requests import Asked, Request, Requests
from headrace.server.services.oip.responses import Responses, failure, in_stream
from headrace.server.services.reading import reading
from headrace.server.services.single import ANY_SIZE
from headrace.server.services.status import Context
from headrace.wire.errors import HeadraceError


class _Pending(NamedTuple):
    """A request that was not answered yet."""

    tag: int
    id: bytes
    asked: Sequence[Asked]


class StreamInferRpc:
    def __init__(self, desk: Desk, requests: Requests, responses: Responses) -> None:
        self._desk = desk
        self._requests = requests
        self._responses = responses

    async def stream(self, context: Context) -> None:
        """Writes until the stream has ended, while a task of its own reads."""
        session = _Session(self._desk, self._requests, self._responses, context)
        try:
            async with reading(self._desk, session.stream, session.read()):
                await session.write()
                if session.failed is not None:
                    raise session.failed
        finally:
            session.let_go()


class _Session:
    """A stream. Its clients know no window, so nothing is read while as many requests as that are not answered.

    What is done at once is answered by the reader, before it reads on; that saves a turn of the event loop.
    """

    def __init__(self, desk: Desk, requests: Requests, responses: Responses, context: Context) -> None:
        self.stream = desk.core.open_stream(unary=True, window=desk.core.limits.window)
        desk.core.open(self.stream, ordered=True, max_message_bytes=ANY_SIZE)
        self.failed: HeadraceError | None = None
        """What the call ends with, if errors end it."""
        self._desk = desk
        self._requests = requests
        self._responses = responses
        self._context = context
        self._pending: deque[_Pending] = deque()
        self._ended: dict[int, Event] = {}
        """By tag: those of pending requests that came before their turn. Refusals do."""
        self._asked: dict[int, Sequence[Asked]] = {}
        """By tag: what may hold regions, until its request is answered."""
        self._answering = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._ends_at_errors = ("triton_grpc_error", "true") in [
            (*each,) for each in context.invocation_metadata() or ()
        ]

    async def read(self) -> None:
        desk, stream = self._desk, self.stream
        # The next message comes while one is run: it is asked for before.
        ahead = EagerCoroutine(self._context.read())
        try:
            for tag in itertools.count(1):
                while len(self._pending) >= stream.window:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                crowded = ahead.ready
                message = await ahead
                if stream.ended:
                    return
                if message is grpc.aio.EOF:
                    desk.core.half_close(stream)
                    desk.act()
                    return
                ahead = EagerCoroutine(self._context.read())
                self._submit(tag, message)
                desk.act()
                if stream.outbox and not (crowded or self._answering.locked()):
                    await self._answer()
        finally:
            ahead.cancel()

    async def write(self) -> None:
        """Until the stream has ended; an error may end it."""
        while await self._desk.changed(self.stream):
            await self._answer()
        async with self._answering:
            # The reader may be writing the last answers.
            pass

    def let_go(self) -> None:
        """Nothing more will be answered."""
        while self._asked:
            self._requests.let_go(self._asked.popitem()[1])

    def _submit(self, tag: int, message: bytes) -> None:
        core = self._desk.core
        pieces = self._requests.take_apart(message)
        asked: Sequence[Asked] = ()
        try:
            request = self._read(pieces)
            if asked := request.asked:
                self._asked[tag] = asked
            submit(core, self.stream, tag, request, len(message), self._desk.now())
        except HeadraceError as error:
            core.reject(self.stream, error, tag)
        self._pending.append(_Pending(tag, pieces.id, asked))

    def _read(self, pieces: Pieces) -> Request:
        """Raises what the client is told; of that, too, which fails though it should not: nothing was admitted yet."""
        try:
            return self._requests.read(pieces)
        except HeadraceError:
            raise
        except Exception as error:
            raise self._desk.incident(error) from None

    async def _answer(self) -> None:
        """Answer whoever may be answered now."""
        desk, stream = self._desk, self.stream
        async with self._answering:
            while events := stream.take():
                for event in events:
                    self._ended[event.tag] = event
                answers = self._take_turns()
                desk.handed_off(stream, [event for _, event in answers])
                for pending, event in answers:
                    message = self._message(pending, event)
                    if self.failed is not None:
                        desk.leave(stream)
                        return
                    await self._context.write(message)
                desk.flushed(stream)

    def _take_turns(self) -> list[tuple[_Pending, Event]]:
        """Those who may be answered now."""
        answers: list[tuple[_Pending, Event]] = []
        while self._pending and self._pending[0].tag in self._ended:
            pending = self._pending.popleft()
            answers.append((pending, self._ended.pop(pending.tag)))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return answers

    def _message(self, pending: _Pending, event: Event) -> bytes:
        """What a client is told. Sets `failed` instead, where that is the end."""
        try:
            if isinstance(event, Failed):
                raise event.error
            assert isinstance(event, Done)
            return in_stream(self._responses.write(event, pending.id, pending.asked))
        except Exception as error:
            known = error if isinstance(error, HeadraceError) else self._desk.incident(error)
            if self._ends_at_errors:
                self.failed = known
            return failure(known, pending.id)
        finally:
            if pending.asked:
                self._requests.let_go(self._asked.pop(pending.tag))
