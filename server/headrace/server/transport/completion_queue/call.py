"""A call on the completion queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import Any, Protocol

from headrace.server.transport.completion_queue.cython_layer import (
    Event,
    receive_close,
    receive_message,
    send_message,
    send_metadata,
    send_status,
)
from headrace.server.transport.message_turns import MessageTurns
from headrace.wire.errors import HeadraceError

NO_DEADLINE = 1e15
"""Seconds since 1970 from which a deadline is none."""


class Owner(Protocol):
    """The server of a call."""

    turns: MessageTurns

    def forget(self, call: QueueCall) -> None:
        """Either gRPC or the handler has ended a call: forget it if both have."""


class QueueCall:
    """`services.call.Call`. Ends with `succeed`, `fail`, or when its client goes.

    At most one message is being read, and one being written. No batch is started once the call has ended: it would be
    useless, and later, when the queue has been shut down, end the process.
    """

    __slots__ = (
        "_arrival",
        "_core",
        "_on_message",
        "_on_sent",
        "_peer",
        "_server",
        "_start",
        "_started",
        "_status_sent",
        "ended",
        "error",
        "task",
    )
    end: object = None

    def __init__(self, server: Owner, arrival: Event) -> None:
        self._server = server
        self._arrival = arrival
        self._core = arrival.call
        self._start = arrival.call.start_server_batch
        self._started = self._status_sent = False
        self._peer = ""
        self._on_message: Callable[[bytes | None], None] | None = None
        self._on_sent: Callable[[bool], None] | None = None
        self.ended = False
        """gRPC has nothing more to say about the call."""
        self.error: HeadraceError | None = None
        self.task: asyncio.Task[None] | None = None
        self._batch(receive_close(), self._closed)

    def peer(self) -> str:
        if not self._peer:
            self._peer = self._core.peer().decode()
        return self._peer

    def turn(self) -> Awaitable[None] | None:
        return self._server.turns.take(self, self.peer)

    def time_remaining(self) -> float | None:
        deadline = self._arrival.call_details.deadline
        return None if deadline > NO_DEADLINE else max(deadline - time(), 0.0)

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._arrival.invocation_metadata

    def end_with(self, error: HeadraceError) -> None:
        self.error = error
        assert self.task is not None
        self.task.cancel()

    async def read(self) -> Any:
        message: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def received(data: bytes | None) -> None:
            if not message.done():
                message.set_result(data)

        self.receive(received)
        return await message

    async def write(self, message: bytes) -> None:
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def sent(delivered: bool) -> None:
            if not written.done():
                written.set_result(delivered)

        self.send(message, sent)
        if not await written:
            raise asyncio.CancelledError("the client has gone")

    def receive(self, callback: Callable[[bytes | None], None]) -> None:
        """Call back with the next message, or None at the end."""
        if self.ended:
            callback(None)
            return
        self._on_message = callback
        self._batch(receive_message(), self._received)

    def send(self, message: bytes, callback: Callable[[bool], None]) -> None:
        """Send a message, and call back with whether there is still a client."""
        if self.ended or self._status_sent:
            callback(False)
            return
        self._on_sent = callback
        self._batch((*self._begin(), send_message(message)), self._sent)

    def succeed(self, response: bytes | None) -> None:
        """End the call, with the response of a unary RPC."""
        if not self.ended and not self._status_sent:
            self._status_sent = True
            message = () if response is None else (send_message(response),)
            self._batch((*self._begin(), *message, send_status(0, b"")), _nothing)

    def fail(self, code: int, details: str) -> None:
        """End the call with a status."""
        if not self.ended and not self._status_sent:
            self._status_sent = True
            self._batch((*self._begin(), send_status(code, details.encode())), _nothing)

    def abandon(self) -> None:
        """End the call without a status, unless it was ended: its client has gone, or the server stops."""
        if not self.ended and not self._status_sent:
            self._status_sent = True
            self._core.cancel()

    def served(self, _task: object) -> None:
        """The handler has ended, or was cancelled before it began."""
        self.task = None
        self.abandon()
        self._server.forget(self)

    def _begin(self) -> tuple[Any, ...]:
        if self._started:
            return ()
        self._started = True
        return (send_metadata(),)

    def _batch(self, operations: Sequence[Any], tag: Callable[[Event], None]) -> None:
        if error := self._start(operations, tag):
            raise RuntimeError(f"gRPC does not start a batch of {len(operations)} operations: {error}")

    def _received(self, event: Event) -> None:
        callback, self._on_message = self._on_message, None
        assert callback is not None
        callback(event.batch_operations[0].message())

    def _sent(self, event: Event) -> None:
        callback, self._on_sent = self._on_sent, None
        assert callback is not None
        callback(event.success)

    def _closed(self, event: Event) -> None:
        self.ended = True
        if event.batch_operations[0].cancelled() and not self._status_sent and self.task is not None:
            self.task.cancel()
        self._server.forget(self)

    def __repr__(self) -> str:
        return f"<QueueCall of {self.peer()}{', ended' if self.ended else ''}>"


def _nothing(_event: Event) -> None:
    pass
