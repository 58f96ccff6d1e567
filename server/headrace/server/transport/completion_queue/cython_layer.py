"""grpcio's Cython layer, which its own synchronous server (`grpc/_server.py`) stands on: the only file that imports it.

The layer is private. So nothing relies on it before `open_queue` has seen it carry a call, and the versions for which
the tests have passed are listed.

How it is used, everywhere:
- A batch owns its operations. An operation in two batches is freed twice.
- Operations of one kind are started one at a time, and none after the queue has been shut down: gRPC ends the process.
- A batch's tag is called with its event. The event is what keeps a received message. If there is no memory for that
  message, the event is lost.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpcio's stubs leave it out: it is private

TESTED = ("1.76", "1.78", "1.80", "1.81", "1.82", "1.83", "1.84", "1.85")
"""Versions of grpcio, without the number of the patch."""
CHECK_SECONDS = 2.0
"""How long the call of the check may take. It takes 10 ms."""
STOP_SECONDS = 0.5
"""How long a connection of a stranger may hold up its end."""

_BUFFER_HINT: int = cygrpc.WriteFlag.buffer_hint
Operation: TypeAlias = Any
"""One of cygrpc.*Operation."""
Tag: TypeAlias = Callable[[Any], None]

TIMEOUT: int = cygrpc.CompletionType.queue_timeout
"""The type of an event that says that nothing has happened."""
SHUTDOWN: int = cygrpc.CompletionType.queue_shutdown
"""The type of the last event of a queue."""


class CoreCall(Protocol):
    """cygrpc.Call."""

    def start_server_batch(self, operations: Sequence[Operation], tag: Tag) -> int:
        """Returns 0, or why the batch was not started: then its tag is not called, and some memory is lost."""

    def cancel(self, code: int = ..., details: str = ...) -> int:
        """Also ends a call with a status, without metadata: both arguments, or none."""

    def peer(self) -> bytes: ...


class Details(Protocol):
    """cygrpc.CallDetails. `deadline` is in seconds since 1970, and very large without one."""

    method: bytes
    deadline: float


class Event(Protocol):
    """cygrpc.BaseEvent; the last three are those of a call that has arrived."""

    completion_type: int
    success: bool
    tag: Tag
    batch_operations: Sequence[Operation]
    call: CoreCall
    call_details: Details
    invocation_metadata: Sequence[tuple[str, str | bytes]]


class Queue(Protocol):
    """cygrpc.CompletionQueue."""

    def poll(self, deadline: float) -> Event:
        """Wait for an event until a time in seconds since 1970. Raises MemoryError, which costs an event."""

    def shutdown(self) -> None: ...


class CoreServer(Protocol):
    """cygrpc.Server."""

    def register_completion_queue(self, queue: Queue) -> None: ...
    def add_http2_port(self, address: bytes, server_credentials: Any = None) -> int: ...
    def start(self, backup_queue: bool) -> None: ...
    def request_call(self, call_queue: Queue, server_queue: Queue, tag: Tag) -> int: ...
    def shutdown(self, queue: Queue, tag: Tag) -> None: ...
    def cancel_all_calls(self) -> None: ...
    def destroy(self) -> None: ...


class UnsuitableError(Exception):
    """This grpcio cannot be used like this. The message is half a sentence for the operator: what is wrong with it."""


def new_server(queue: Queue, options: Sequence[tuple[str, int]]) -> CoreServer:
    """A server whose calls arrive in `queue`."""
    server: CoreServer = cygrpc.Server(options, False)
    server.register_completion_queue(queue)
    return server


def add_port(server: CoreServer, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Bind an address, encrypted if there are credentials. Returns 0 if that is not possible."""
    inner = None if credentials is None else credentials._credentials  # type: ignore[attr-defined]
    return server.add_http2_port(address.encode(), inner)


def connection_of(call: CoreCall) -> Mapping[str, Sequence[bytes]]:
    """What gRPC knows of who is at the other end of a call's connection."""
    return {key.decode(): values for key, values in (cygrpc.auth_context(call) or {}).items()}


def receive_message() -> tuple[Operation]:
    return (cygrpc.ReceiveMessageOperation(0),)


def receive_close() -> tuple[Operation]:
    """Done when the call has ended: `cancelled()` of the operation says whether before its status was sent."""
    return (cygrpc.ReceiveCloseOnServerOperation(0),)


def send_metadata() -> Operation:
    return cygrpc.SendInitialMetadataOperation(None, 0)


def send_message(message: bytes, more: bool = False) -> Operation:
    """With `more`, gRPC holds a small message back until the next operation that sends, and says at once that it is
    sent: several messages then take one system call."""
    return cygrpc.SendMessageOperation(message, _BUFFER_HINT if more else 0)


def send_status(code: int, details: bytes, metadata: Sequence[tuple[str, str]] = ()) -> Operation:
    return cygrpc.SendStatusFromServerOperation(metadata or None, code, details, 0)


def is_tested() -> bool:
    """Whether the tests have passed with this version of grpcio."""
    return grpc.__version__.rpartition(".")[0] in TESTED


def open_queue() -> tuple[Queue, CoreCall]:
    """A queue, and a call whose batches end in it: its client has gone, and nobody else can reach it.

    The call has been carried over a socket of this process, which is closed again. Raises UnsuitableError if anything
    does not go as it has to.
    """
    try:
        return _open_queue()
    except UnsuitableError:
        raise
    except Exception as error:  # whatever another version raises
        raise UnsuitableError(f"its call to itself has failed: {error!r}") from error


def _open_queue() -> tuple[Queue, CoreCall]:
    queue: Queue = cygrpc.CompletionQueue()
    server = new_server(queue, [("grpc.so_reuseport", 0)])
    method = f"/headrace.Check/{secrets.token_hex()}"
    with _socket_address() as address:
        if not server.add_http2_port(address.encode()):
            raise UnsuitableError(f"it cannot listen on {address}")
        server.start(backup_queue=False)
        with grpc.insecure_channel(address) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            answer = ask.future(b"request", timeout=CHECK_SECONDS)
            call = _Check(queue, server).answer(method.encode())
            if answer.result(CHECK_SECONDS) != b"response":
                raise UnsuitableError("a response has changed on its way")
        _stop(queue, server)
    woken: list[Event] = []
    if call.start_server_batch((), woken.append):
        raise UnsuitableError("a call that has ended takes no empty batch")
    _next(queue)
    if not woken:
        raise UnsuitableError("an empty batch did not end first")
    return queue, call


class _Check:
    """Answers one call, as servers here do it."""

    def __init__(self, queue: Queue, server: CoreServer) -> None:
        self._queue, self._server = queue, server
        self._call: CoreCall | None = None
        self._messages: list[Any] = []
        self._ended = 0

    def answer(self, method: bytes) -> CoreCall:
        """Wait for the call of a method and answer it; calls of strangers are cancelled."""
        while True:
            arrived: list[Event] = []
            self._server.request_call(self._queue, self._queue, arrived.append)
            while not arrived:
                _next(self._queue)
            (event,) = arrived
            if event.call_details.method == method:
                break
            event.call.cancel()
        call = event.call
        _check("the deadline", abs(event.call_details.deadline - time.time()) < 2 * CHECK_SECONDS)
        _check("the metadata", all(isinstance(key, str) for key, _ in event.invocation_metadata))
        _check("the peer", call.peer().startswith(b"unix"))
        _check("the connection", all(isinstance(values, list) for values in connection_of(call).values()))
        self._start(call, receive_close())
        self._start(call, receive_message())
        while not self._messages:
            _next(self._queue)
        _check("the message", self._messages == [b"request"])
        self._start(call, (send_metadata(), send_message(b"response"), send_status(0, b"")))
        while self._ended < 3:
            _next(self._queue)
        return call

    def _start(self, call: CoreCall, operations: Sequence[Operation]) -> None:
        _check("a batch", call.start_server_batch(operations, self._end) == 0)

    def _end(self, event: Event) -> None:
        _check("an event", event.success)
        self._ended += 1
        (*_, operation) = event.batch_operations
        if isinstance(operation, cygrpc.ReceiveMessageOperation):
            self._messages.append(operation.message())
        elif isinstance(operation, cygrpc.ReceiveCloseOnServerOperation):
            _check("the end of a call", operation.cancelled() is False)


def _stop(queue: Queue, server: CoreServer) -> None:
    """End a server whose clients have gone, or go now."""
    ended: list[Event] = []
    server.shutdown(queue, ended.append)
    event = queue.poll(time.time() + STOP_SECONDS)
    if event.completion_type == TIMEOUT:
        server.cancel_all_calls()
    else:
        event.tag(event)
    while not ended:
        _next(queue)
    server.destroy()


def _next(queue: Queue) -> None:
    """Handle the next event. Raises UnsuitableError if none comes."""
    event = queue.poll(time.time() + CHECK_SECONDS)
    if event.completion_type in (TIMEOUT, SHUTDOWN):
        raise UnsuitableError(f"its call to itself did not end within {CHECK_SECONDS:g} s")
    event.tag(event)


def _check(what: str, expected: bool) -> None:
    if not expected:
        raise UnsuitableError(f"{what} of its call to itself is not what it has to be")


@contextmanager
def _socket_address() -> Iterator[str]:
    """An address that nobody knows, for as short a time as it takes. Only on Linux it needs no file."""
    if sys.platform == "linux":
        yield f"unix-abstract:headrace-{secrets.token_hex()}"
    else:
        with TemporaryDirectory() as folder:
            yield f"unix:{Path(folder, 'check')}"
