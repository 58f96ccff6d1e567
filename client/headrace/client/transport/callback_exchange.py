"""A stream's messages without tasks: what gRPC has received is handled in its callback, and so is what it has sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol, runtime_checkable

from headrace.client.transport.waker import Waiter, Waker
from headrace.wire.errors import HeadraceError


@runtime_checkable
class CallbackCall(Protocol):
    """A call that has callbacks beside its coroutines: waking a task takes as long as reading a small message."""

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        """Call back with the next message, or None when the call has ended."""

    def write_then(self, message: bytes, callback: Callable[[bool], None]) -> None:
        """Call back with whether it was sent; if not, the call has ended."""

    def close_then(self, callback: Callable[[bool], None]) -> None:
        """Half-close, and call back as `write_then`."""

    def failure(self) -> BaseException | None:
        """How the call has ended: None if well, AioRpcError, or CancelledError if it was cancelled here."""


class Exchanging(Protocol):
    """The stream, as far as it says what becomes of messages."""

    idle_writer: Waiter | None
    """Whom to wake when there is something to write."""

    def next_message(self) -> bytes | None: ...
    def is_finished(self) -> bool:
        """Whether nothing is to be written any more."""

    def received(self, message: bytes | None) -> HeadraceError | None:
        """Handle a message; None is the end of the call. Returns an error if no other message can follow."""


class CallbackExchange:
    """Reads and writes until the call has ended."""

    def __init__(self, call: CallbackCall, stream: Exchanging, waker: Waker) -> None:
        self._call = call
        self._stream = stream
        self._ended: asyncio.Future[HeadraceError] = asyncio.get_running_loop().create_future()
        self._waiter = waker.waiter()
        self._waiter._context = copy_context()

    async def run(self) -> HeadraceError:
        """Returns how the call has ended."""
        try:
            self._call.read_then(self._on_message)
            # After the tasks that are about to run: what they submit goes with it.
            asyncio.get_running_loop().call_soon(self._write)
            return await self._ended
        finally:
            self._stream.idle_writer = None

    def _on_message(self, message: bytes | None) -> None:
        if self._ended.done():
            return
        try:
            error = self._stream.received(message)
            if error is None:
                self._call.read_then(self._on_message)
            else:
                self._ended.set_result(error)
        except BaseException as failure:
            self._fail(failure)

    def _write(self, _waiter: object = None) -> None:
        """Write the next message, or wait until there is one."""
        if self._ended.done():
            return
        try:
            message = self._stream.next_message()
            if message is not None:
                self._call.write_then(message, self._on_sent)
            elif self._stream.is_finished():
                self._call.close_then(_nothing)
            else:
                self._waiter._callback = self._write
                self._stream.idle_writer = self._waiter
        except BaseException as failure:
            self._fail(failure)

    def _on_sent(self, sent: bool) -> None:
        if sent:
            self._write()

    def _fail(self, failure: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(failure)
        if not isinstance(failure, Exception):
            raise failure


def _nothing(_sent: bool) -> None:
    pass
