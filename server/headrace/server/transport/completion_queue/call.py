"""A call on the completion queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from time import time
from typing import Any, Protocol, TypeVar

from headrace.polling.expected import Expected
from headrace.server.transport.completion_queue.backlog import Backlog
from headrace.server.transport.completion_queue.cython_layer import (
    Event,
    connection_of,
    receive_close,
    receive_message,
    send_message,
    send_metadata,
    send_status,
)
from headrace.server.transport.credentials import names_of
from headrace.server.transport.handling import NO_MEMORY
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.options import trailing_metadata
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError, ResourceExhausted, forget_frames

T = TypeVar("T")

NO_DEADLINE = 1e15
"""Seconds since 1970 from which a deadline is none."""


class Owner(Protocol):
    """The server of a call."""

    turns: MessageTurns
    status_of: StatusOf
    receiving: Receiving
    backlog: Backlog

    def forget(self, call: QueueCall) -> None:
        """Nothing happens to a call any more."""


class QueueCall:
    """`services.call.Call`. Ends with `respond`, `fail` or `abandon`, or when its client goes.

    At most one message is being read, and one being written. No batch is started once the call has ended: it would be
    useless, and later, when the queue has been shut down, end the process.
    """

    __slots__ = (
        "_arrival",
        "_core",
        "_on_message",
        "_on_sent",
        "_peer",
        "_start",
        "_started",
        "client",
        "ended",
        "error",
        "owner",
        "reported",
    )
    end: object = None

    def __init__(self, owner: Owner, arrival: Event) -> None:
        self.owner = owner
        self._arrival = arrival
        self._core = arrival.call
        self._start = arrival.call.start_server_batch
        self._started = False
        self._peer = ""
        self._on_message: Callable[[bytes | None], None] | None = None
        self._on_sent: Callable[[bool], None] | None = None
        self.ended = False
        """Whether its status has been sent, or its client has gone."""
        self.error: HeadraceError | None = None
        self.reported = False
        self.client: Hashable = None
        self._await_end()

    def peer(self) -> str:
        if not self._peer:
            self._peer = self._core.peer().decode()
        return self._peer

    def turn(self) -> asyncio.Future[None] | None:
        return self.owner.turns.take(self, self.client)

    def time_remaining(self) -> float | None:
        deadline = self._arrival.call_details.deadline
        return None if deadline > NO_DEADLINE else max(deadline - time(), 0.0)

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._arrival.invocation_metadata

    def certificate_names(self) -> Sequence[str]:
        return names_of(connection_of(self._core))

    async def read(self) -> Any:
        message: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.read_then(partial(_set, message))
        return await message

    async def write(self, message: bytes) -> None:
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.write_then(message, partial(_set, written))
        if not await written:
            raise asyncio.CancelledError("the client has gone")

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        if self.ended:
            asyncio.get_running_loop().call_soon(callback, None)
        else:
            self._on_message = callback
            self._batch(receive_message(), Expected(self._received, self._lost))

    def write_then(self, message: bytes, callback: Callable[[bool], None], *, more: bool = False) -> None:
        if self.ended:
            asyncio.get_running_loop().call_soon(callback, False)
        else:
            self._on_sent = callback
            # What goes with the initial metadata is not held back: gRPC would wait with both, and not say that it does.
            held = more and self._started
            self._batch((*self._begin(), send_message(message, held)), self._sent)

    def respond(self, response: bytes | None) -> None:
        """End the call: well, and with the response of a unary RPC."""
        if not self.ended:
            self.ended = True
            message = () if response is None else (send_message(response),)
            self._batch((*self._begin(), *message, send_status(0, b"")), _nothing)

    def fail(self, error: Exception) -> None:
        """End the call with the status of an error; an unexpected one becomes INTERNAL with an id."""
        if not self.ended:
            known = self.owner.status_of(error, self, self._method())
            self.ended = True
            status = send_status(known.code, known.message.encode(), trailing_metadata(known))
            self._batch((*self._begin(), status), _nothing)
        forget_frames(error)

    def abandon(self) -> None:
        """End the call without a status, unless it has ended: the server stops."""
        if not self.ended:
            self.ended = True
            self._core.cancel()

    def cancelled(self) -> None:
        """The client has gone, its deadline has passed, or the server has stopped."""
        if not self.ended:
            self.ended = True
            self.client_gone()

    def client_gone(self) -> None:
        """What there is to do when the call has been cancelled."""

    def end_with(self, error: HeadraceError) -> None:
        """Set `error`, and end the call with it."""
        self.error = error
        self.fail(error)

    def closed(self) -> None:
        """Nothing comes from gRPC any more."""
        self.owner.forget(self)

    def _await_end(self) -> None:
        self._batch(receive_close(), self._closed)

    def _method(self) -> str:
        return self._arrival.call_details.method.decode(errors="replace")[1:]

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

    def _lost(self) -> None:
        """There was no memory for a message."""
        if not self.ended:
            self.end_with(ResourceExhausted(NO_MEMORY))

    def _sent(self, event: Event) -> None:
        callback, self._on_sent = self._on_sent, None
        assert callback is not None
        callback(event.success)

    def _closed(self, _event: Event) -> None:
        self.cancelled()
        self.closed()

    def __repr__(self) -> str:
        return f"<QueueCall of {self.peer()}{', ended' if self.ended else ''}>"


class RefusedCall(QueueCall):
    """A call that is refused when the server has more to do than it can, so that this takes as little as possible.

    To cancel a call with a status sends that, without metadata, and is one step of gRPC: no batch, and no event.
    """

    __slots__ = ()

    def _await_end(self) -> None:
        pass

    def fail(self, error: Exception) -> None:
        self.ended = True
        known = self.owner.status_of(error, self, self._method())
        self._core.cancel(known.code, known.message)


def _nothing(_event: Event) -> None:
    pass


def _set(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # its task may have been cancelled
        future.set_result(result)
