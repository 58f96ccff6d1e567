"""headrace.v1, stream: through the client library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType

import headrace.client as hc
from headrace.client.aio.stream import Stream
from headrace.client.aio.ticket import Ticket
from headrace.client.load.callers.caller import Answer, Inputs, Request
from headrace.client.load.callers.departure import Cause, Departure, Outage
from headrace.client.load.record.samples import UNKNOWN_TIMES, ServerTimes
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.wire.errors import Cancelled, HeadraceError, Unavailable

STREAM_CLOSED = Cancelled("the load test closed the stream")
"""A stream that is left with an exception does not wait for answers."""


def callers(settings: ConnectionSettings, request: Request, streams: int, window: int) -> Sequence[HeadraceStream]:
    return [HeadraceStream(settings.beginning_at(number), request, window) for number in range(streams)]


class HeadraceStream:
    """A stream on a connection of its own. After it has ended, the next call opens a new one."""

    def __init__(self, settings: ConnectionSettings, request: Request, window: int) -> None:
        self._server = hc.Server(settings)
        self._request = request
        self._window = asyncio.Semaphore(window)
        self._stream: Stream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._outage = Outage()
        self._held = 0
        """Requests that wait for the stream to take them."""
        self._held_by: Cause = "window"

    async def __aenter__(self) -> HeadraceStream:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._stream is not None:
            await self._stream.__aexit__(Cancelled, STREAM_CLOSED, None)
        await self._server.close()

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        async with self._window:
            ticket = None
            try:
                ticket = await self._submit(inputs, departure)
                departure.leave(time.perf_counter())
                await ticket
            except HeadraceError as error:
                return Answer(departure.sent, time.perf_counter(), int(error.code), error.message, UNKNOWN_TIMES)
            except asyncio.CancelledError:
                if ticket is not None:
                    ticket.cancel()
                raise
            ended = time.perf_counter()
            if ticket.keep:
                ticket.release()
            return Answer(departure.sent, ended, 0, "", _times(ticket))

    @property
    def outage_seconds(self) -> float:
        return self._outage.seconds

    async def _submit(self, inputs: Inputs, departure: Departure) -> Ticket:
        stream = self._stream
        assert stream is not None
        try:
            return await self._submit_to(stream, inputs, departure)
        except Unavailable:
            with departure.waiting_for("connection"), self._outage:
                stream = await self._reopen(stream)
            return await self._submit_to(stream, inputs, departure)

    async def _submit_to(self, stream: Stream, inputs: Inputs, departure: Departure) -> Ticket:
        if not stream.full:
            return await self._submit_now(stream, inputs)
        if stream.in_flight >= stream.hello.window:
            self._held_by = "window"  # the server's, which may be smaller than ours
        elif not self._held:
            self._held_by = "network"  # too many bytes wait to be written
        self._held += 1
        try:
            with departure.waiting_for(self._held_by):
                return await self._submit_now(stream, inputs)
        finally:
            self._held -= 1

    async def _submit_now(self, stream: Stream, inputs: Inputs) -> Ticket:
        request = self._request
        return await stream.submit(
            request.model,
            inputs,
            outputs=request.outputs,
            keep=request.keep,
            version=request.version or None,
            timeout=request.timeout,
            priority=request.priority,
        )

    async def _reopen(self, ended: Stream) -> Stream:
        """A stream that replaces `ended`. Concurrent calls share one attempt. Raises Unavailable."""
        if self._stream is ended:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open())
            await asyncio.shield(self._opening)
        assert self._stream is not None
        return self._stream

    async def _open(self) -> None:
        stream = self._server.stream()
        await stream.__aenter__()
        self._stream = stream


def _times(ticket: Ticket) -> ServerTimes:
    if ticket.times is None:
        return UNKNOWN_TIMES
    waiting, queued, running = ticket.times
    return ServerTimes(waiting / 1e6, queued / 1e6, running / 1e6)
