"""A stream that outlives its connections: it is opened again when it breaks, and what is unfinished is sent again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from headrace.client.protocol.backoff import backoff
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.resuming.resumable_protocol import ResumableProtocol
from headrace.client.transport.stream_transport import StreamTransport
from headrace.wire.errors import Cancelled, HeadraceError, Internal, Unavailable

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""The default of how many seconds the stream tries to come back."""
HELLO_SECONDS = 1.0
"""How long the first attempt waits for a server. Each further one waits twice as long as the one before."""
DRAIN_SECONDS = 2.0
"""How long tickets in flight may end where the stream ends. Then they are sent again on the next connection."""
SETTLED_SECONDS = 1.0
"""A connection that breaks sooner belongs to the same outage as the break before."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

OpenTransport = Callable[[float], Awaitable[StreamTransport]]
"""Opens a stream and waits for its Hello, each for so many seconds at most. Raises HeadraceError."""


@dataclass(frozen=True)
class Resumed:
    """A stream was resumed: what had ended its connection, for how many seconds it had none, how many tickets in flight
    were sent again, and whether the server had asked it to move, so that nothing was wrong."""

    target: str
    error: HeadraceError
    seconds: float
    tickets: int
    moved: bool = False


class ResumingTransport(StreamTransport):
    """To the stream one transport, to the servers one after another."""

    protocol: ResumableProtocol

    def __init__(
        self,
        first: StreamTransport,
        protocol: ResumableProtocol,
        target: str,
        open_transport: OpenTransport,
        patience: float,
        on_resume: Callable[[Resumed], object] | None,
    ) -> None:
        super().__init__(first.call, protocol, target)
        self._open_transport = open_transport
        self._patience = patience
        self._on_resume = on_resume
        self._reopening: asyncio.Task[StreamTransport] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        """Set while the server ends the stream: ends the call when its time is over."""
        self._attempts = 0
        """To open the stream since the outage began."""
        self._patience_ends = 0.0
        self._adopt(first)
        self.start()

    def cancel(self, ticket: TicketState) -> None:
        super().cancel(ticket)
        self._deliver(self.protocol.take_ended())

    async def finish(self) -> None:
        self.protocol.close()
        self._deliver(())
        await super().finish()

    def end(self, error: HeadraceError) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        super().end(error)

    # Internal

    async def _run(self) -> None:
        error: HeadraceError = Internal("the client failed while it worked on the stream")
        try:
            while True:
                error = await self._exchange()
                is_final = self._is_final(error)
                self.call.cancel()
                if is_final:
                    break
                moved = self.protocol.asked_to_move
                if not moved:
                    self.avoid()
                self.protocol.disconnected(crashed=self.peer_has_vanished)
                self._deliver(self.protocol.take_ended())
                if self.protocol.finished:
                    break
                await self._resume(error, moved=moved)
        except HeadraceError as final:
            error = final
        except asyncio.CancelledError:
            error = Cancelled("the stream was cancelled before it had ended")
            raise
        finally:
            self.call.cancel()
            self._conclude(error)

    def received(self, message: bytes | None) -> HeadraceError | None:
        error = super().received(message)
        if error is None and self.protocol.draining:
            if self.protocol.idle:
                return Unavailable(f"{self._target}: the server {self._does()}")
            if self._leaving is None:
                self._leaving = self.loop.call_later(DRAIN_SECONDS, self.call.cancel)
        return error

    def _does(self) -> str:
        return "asks the stream to move" if self.protocol.asked_to_move else "is stopping"

    def next_message(self) -> bytes | None:
        message = super().next_message()
        self._deliver(self.protocol.take_ended())
        return message

    def _deliver(self, tickets: Iterable[TicketState]) -> None:
        super()._deliver(tickets)
        if self._reopening is not None and self.protocol.finished:
            self._reopening.cancel()  # the last ticket has ended without a connection
        if self.protocol.unsent:
            self.wake_writer()  # what had to wait may have been sent now

    def _is_final(self, error: HeadraceError) -> bool:
        """Whether the end of a call ends the stream."""
        is_leaving, self._leaving = self._leaving, None
        if is_leaving is not None:
            is_leaving.cancel()
        return self.protocol.error is not None or (is_leaving is None and not _is_break(error))

    async def _resume(self, cause: HeadraceError, *, moved: bool) -> None:
        """Open the stream again. Raises Unavailable when patience is over, and any error that no attempt mends."""
        began = self.loop.time()
        settled = _FIRST_PAUSE if moved else SETTLED_SECONDS
        if not self._patience_ends or began - self._opened >= settled:
            self._patience_ends, self._attempts = began + self._patience, 0
        level, how = (logging.INFO, "moves") if moved else (logging.WARNING, "broke")
        logger.log(level, "the stream to %s %s and is opened again: %s", self._target, how, cause.message)
        self._reopening = asyncio.create_task(self._reopen(cause))
        try:
            await asyncio.wait((self._reopening,))
        finally:
            self._reopening.cancel()
        reopening, self._reopening = self._reopening, None
        if reopening.cancelled():
            raise Cancelled("the stream was left while it had no connection")
        fresh = reopening.result()
        if self.protocol.error is not None:
            fresh.call.cancel()
            raise self.protocol.error
        count = self._adopt(fresh)
        resumed = Resumed(self._target, cause, self.loop.time() - began, count, moved)
        goes_on = "the stream to %s goes on after %.3f s; %d tickets are sent again"
        logger.log(level, goes_on, self._target, resumed.seconds, count)
        self._deliver(self.protocol.take_ended())
        if self._on_resume is not None:
            try:
                self._on_resume(resumed)
            except Exception:
                logger.exception("on_resume has failed")

    def _adopt(self, fresh: StreamTransport) -> int:
        assert isinstance(fresh.protocol, StreamProtocol)
        self.call, self.avoid = fresh.call, fresh.avoid
        self.peer_has_vanished = self._was_draining = False
        self._opened = self.loop.time()
        return self.protocol.connected(fresh.protocol)

    async def _reopen(self, error: HeadraceError) -> StreamTransport:
        while True:
            if self._attempts:  # the first one is made at once
                await asyncio.sleep(backoff(self._attempts, random.random(), first=_FIRST_PAUSE, most=_LONGEST_PAUSE))
            left = self._patience_ends - self.loop.time()
            if left <= 0:
                raise Unavailable(
                    f"{self._target}: the stream broke, and could not be resumed within {self._patience:g} s: "
                    f"{error.message}"
                )
            timeout = min(left, HELLO_SECONDS * 2 ** min(self._attempts, 5))
            self._attempts += 1
            try:
                fresh = await self._open_transport(timeout)
            except HeadraceError as failure:
                if not _is_break(failure):
                    raise
                error = failure
                continue
            if not fresh.protocol.draining:
                return fresh
            fresh.call.cancel()
            fresh.avoid()
            error = Unavailable(f"{self._target}: the server is stopping")


def _is_break(error: HeadraceError) -> bool:
    """Whether another connection may help: the server, or what is between, has ended the call, and not the client."""
    return error.retryable or isinstance(error, Internal)
