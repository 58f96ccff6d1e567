"""Calls on the completion queue, which look like those of grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from headrace.client.transport.completion_queue.channel_queue import ChannelQueue
from headrace.client.transport.completion_queue.cython_layer import (
    CoreCall,
    Event,
    Metadata,
    cancel_call,
    receive_message,
    receive_metadata,
    receive_status,
    send_close,
    send_message,
    send_metadata,
)
from headrace.polling.expected import Expected

T = TypeVar("T")

NO_MEMORY = "this process had no memory for a message"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_NO_METADATA = grpc.aio.Metadata()


class Owner(Protocol):
    """The channel of a call."""

    queue: ChannelQueue
    calls: set[Any]


class QueueCall:
    """What calls of every kind have. `_status` is set when it has ended, for whichever reason."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._queue = owner.queue
        self._loop = asyncio.get_running_loop()
        self._status: grpc.aio.AioRpcError | None = None
        """How the call has ended; also OK is an error here."""
        self._core: CoreCall | None = None
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        owner.calls.add(self)

    def done(self) -> bool:
        return self._status is not None

    def cancelled(self) -> bool:
        """Whether `cancel` was called before it had ended."""
        return self._cancelled

    def cancel(self) -> bool:
        """End the call. Returns False if it has ended."""
        if self._status is not None:
            return False
        self._cancelled = True
        assert self._core is not None
        cancel_call(self._core)
        self._end(_status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._status is None:
            self._callbacks.append(callback)
        else:
            callback(self)

    def _end(self, status: grpc.aio.AioRpcError) -> None:
        if self._status is None:
            self._status = status
            self._owner.calls.discard(self)
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)
            self._ended()

    def _ended(self) -> None:
        """Wake whoever waits for the end."""

    def _on_status(self, event: Event) -> None:
        operation = event.batch_operations[-1]
        metadata = grpc.aio.Metadata(*((key, value) for key, value in operation.trailing_metadata() or ()))
        self._end(_status(_CODES[operation.code()], operation.details(), metadata, operation.error_string()))

    def _lost(self) -> None:
        """There was no memory for an event."""
        if self._status is None and self._core is not None and not self._loop.is_closed():
            cancel_call(self._core)
            self._end(_status(grpc.StatusCode.RESOURCE_EXHAUSTED, NO_MEMORY))

    def failure(self) -> BaseException | None:
        """How it has ended: None if well, AioRpcError, or CancelledError if it was cancelled here."""
        if self._cancelled:
            return asyncio.CancelledError()
        assert self._status is not None
        return None if self._status.code() is grpc.StatusCode.OK else self._status

    def _raised(self) -> BaseException:
        """What whoever waits gets of a call that was over too early."""
        return self.failure() or asyncio.InvalidStateError("the call has ended")


class UnaryCall(QueueCall):
    """One request, one response. Everything about it is one batch."""

    def __init__(self, owner: Owner, method: str, request: bytes, timeout: float | None, metadata: Metadata) -> None:
        super().__init__(owner)
        self._answer: asyncio.Future[bytes | None] = self._loop.create_future()
        operations = (
            send_metadata(metadata),
            send_message(request),
            send_close(),
            receive_metadata(),
            receive_message(),
            receive_status(),
        )
        deadline = None if timeout is None else time() + timeout
        try:
            self._core = self._queue.start(method, deadline, metadata, (operations, Expected(self._on_end, self._lost)))
        except BaseException:
            owner.calls.discard(self)
            raise

    async def answer(self) -> bytes:
        """Raises AioRpcError; CancelledError if the call was cancelled. Whoever cancels this cancels the call."""
        try:
            answer = await self._answer
        except asyncio.CancelledError:
            self.cancel()
            raise
        if answer is None:
            raise self._raised()
        return answer

    def _on_end(self, event: Event) -> None:
        if self._status is None:
            self._on_status(event)
            assert self._status is not None
            if self._status.code() is grpc.StatusCode.OK and not self._answer.done():
                self._answer.set_result(event.batch_operations[-2].message() or b"")

    def _ended(self) -> None:
        assert self._status is not None
        if self._status.code() is not grpc.StatusCode.OK and not self._answer.done():
            self._answer.set_result(None)


class StreamCall(QueueCall):
    """Requests and responses in any order. One message is read, and one written, at a time."""

    def __init__(self, owner: Owner, method: str, metadata: Metadata) -> None:
        super().__init__(owner)
        self._on_read: Callable[[bytes | None], None] | None = None
        self._on_written: Callable[[bool], None] | None = None
        try:
            self._core = self._queue.start(
                method,
                None,
                metadata,
                ((send_metadata(metadata), receive_metadata()), _nothing),
                ((receive_status(),), Expected(self._on_status, self._lost)),
            )
        except BaseException:
            owner.calls.discard(self)
            raise

    async def read(self) -> Any:
        """A message, or `grpc.aio.EOF` at the end of a call that has ended well. Raises as `UnaryCall.answer`."""
        message: asyncio.Future[bytes | None] = self._loop.create_future()
        self.read_then(partial(_set, message))
        read = await self._cancelling(message)
        if read is not None:
            return read
        failure = self.failure()
        if failure is None:
            return grpc.aio.EOF
        raise failure

    async def write(self, message: bytes) -> None:
        """Raises InvalidStateError when the call has ended, and as `UnaryCall.answer` if it ends meanwhile."""
        await self._sent(partial(self.write_then, message))

    async def done_writing(self) -> None:
        await self._sent(self.close_then)

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        """Call back with the next message, or None when the call has ended."""
        if self._status is not None:
            self._loop.call_soon(callback, None)
            return
        assert self._core is not None
        self._on_read = callback
        self._queue.operate(self._core, (receive_message(),), Expected(self._on_message, self._lost))

    def write_then(self, message: bytes, callback: Callable[[bool], None]) -> None:
        """Call back with whether it was sent; if not, the call has ended."""
        self._send(send_message(message), callback)

    def close_then(self, callback: Callable[[bool], None]) -> None:
        """Half-close, and call back as `write_then`."""
        self._send(send_close(), callback)

    def _send(self, operation: Any, callback: Callable[[bool], None]) -> None:
        if self._status is not None:
            self._loop.call_soon(callback, False)
            return
        assert self._core is not None
        self._on_written = callback
        self._queue.operate(self._core, (operation,), self._on_sent)

    async def _sent(self, send: Callable[[Callable[[bool], None]], None]) -> None:
        if self._status is not None:
            raise asyncio.InvalidStateError("the call has ended")
        written: asyncio.Future[bool] = self._loop.create_future()
        send(partial(_set, written))
        if not await self._cancelling(written):
            raise self._raised()

    async def _cancelling(self, future: asyncio.Future[T]) -> T:
        """Whoever cancels the waiting cancels the call."""
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _on_message(self, event: Event) -> None:
        message = event.batch_operations[0].message()
        # Without a message the call has ended, and the status comes next.
        if message is not None and self._on_read is not None:
            callback, self._on_read = self._on_read, None
            callback(message)

    def _on_sent(self, event: Event) -> None:
        if event.success and self._on_written is not None:
            callback, self._on_written = self._on_written, None
            callback(True)

    def _ended(self) -> None:
        read, self._on_read = self._on_read, None
        written, self._on_written = self._on_written, None
        if read is not None:
            self._loop.call_soon(read, None)
        if written is not None:
            self._loop.call_soon(written, False)


def _status(
    code: grpc.StatusCode, details: str, metadata: grpc.aio.Metadata = _NO_METADATA, debug: str = ""
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, _NO_METADATA, metadata, details, debug)


def _set(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # its task may have been cancelled
        future.set_result(result)


def _nothing(_event: Event) -> None:
    pass
