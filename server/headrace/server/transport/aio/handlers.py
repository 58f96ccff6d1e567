"""From services to handlers of grpc.aio, and from its context to a `Call`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias

import grpc

from headrace.server.services.call import Answering, AnsweringHandler, Rpc, Service, Unary
from headrace.server.transport.aio.driving import Driven
from headrace.server.transport.aio.status import Context, finish
from headrace.server.transport.credentials import names_of
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.handling import NO_MEMORY, handle
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.options import NO_SUCH_METHOD
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError, ResourceExhausted, Unimplemented, forget_frames

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class AioCall:
    """`services.call.AnswerableCall` over a context of grpc.aio, whose handler is the current task."""

    __slots__ = (
        "_context",
        "_response",
        "_task",
        "_turns",
        "client",
        "end",
        "error",
        "on_end",
        "peer",
        "read",
        "reported",
        "write",
    )

    def __init__(self, context: Context, turns: MessageTurns) -> None:
        self._context = context
        self._turns = turns
        self.end: object = grpc.aio.EOF
        self._task = asyncio.current_task()
        self._response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[], None] | None = None
        self.error: HeadraceError | None = None
        self.reported = False
        self.client: Hashable = None
        # Bound methods of the context itself: wrappers would cost every message two calls.
        self.read: Callable[[], Any] = context.read
        self.write: Callable[[bytes], Any] = context.write
        self.peer: Callable[[], str] = context.peer

    def turn(self) -> asyncio.Future[None] | None:
        return self._turns.take(self, self.client)

    def time_remaining(self) -> float | None:
        return self._context.time_remaining()

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return [(key, value) for key, value in self._context.invocation_metadata() or ()]

    def certificate_names(self) -> Sequence[str]:
        return names_of(self._context.auth_context())

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        def ended(message: Any, error: BaseException | None) -> None:
            if isinstance(error, MemoryError):
                self.end_with(ResourceExhausted(NO_MEMORY))
            else:  # otherwise it fails only when the call has ended
                callback(None if error is not None or message is self.end else message)

        Driven(self.read(), ended)

    def write_then(self, message: bytes, callback: Callable[[bool], None], *, more: bool = False) -> None:
        # A hint for gRPC that more follows would be an argument of each write, and a call around it.
        Driven(self.write(message), lambda _, error: callback(error is None))

    def respond(self, response: bytes) -> None:
        if not self._response.done():
            self._response.set_result(response)

    def fail(self, error: Exception) -> None:
        if isinstance(error, HeadraceError):  # others are logged with their frames first
            forget_frames(error)
        if not self._response.done():
            self._response.set_exception(error)

    async def answer(self) -> bytes:
        """Wait for the answer. Returns the response, or raises the error."""
        try:
            return await self._response
        except asyncio.CancelledError:
            if self.on_end is not None:
                self.on_end()
            raise

    def end_with(self, error: HeadraceError) -> None:
        self.error = error
        assert self._task is not None
        self._task.cancel()


class CallLife(NamedTuple):
    """What all calls go through. `status_of` logs errors and says what clients are told."""

    entrance: Entrance
    status_of: StatusOf
    receiving: Receiving
    turns: MessageTurns


def handlers(service: Service, life: CallLife) -> grpc.GenericRpcHandler:
    """The handlers of a service.

    To gRPC every RPC has a stream of requests, which looks the same on the wire. With a single one, gRPC would receive
    the message before it calls a handler, and nothing could refuse it or end it meanwhile.
    """
    return grpc.method_handlers_generic_handler(
        service.name, {name: _handler(rpc, f"{service.name}/{name}", life) for name, rpc in service.rpcs.items()}
    )


class UnknownMethods(grpc.GenericRpcHandler):
    """Answers what no service has, as gRPC does, and in the log."""

    def __init__(self, life: CallLife) -> None:
        self._life = life

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        name = handler_call_details.method[1:]

        async def refuse(_requests: object, context: Context) -> Any:
            call = AioCall(context, self._life.turns)
            await finish(context, Unimplemented(NO_SUCH_METHOD), self._life.status_of, call, name)

        return grpc.stream_stream_rpc_method_handler(refuse)


def _handler(rpc: Rpc, name: str, life: CallLife) -> Handler:
    serve = serving(rpc, name, life)
    if isinstance(rpc, Unary | Answering):
        return grpc.stream_unary_rpc_method_handler(serve)
    return grpc.stream_stream_rpc_method_handler(serve)


def serving(rpc: Rpc, name: str, life: CallLife) -> Callable[[object, Context], Coroutine[Any, Any, Any]]:
    """What serves a call of an RPC, in a task of its own. It returns the response of a unary RPC."""
    door = life.entrance.door(f"/{name}")
    if isinstance(rpc, Answering):
        rpc = Unary(_awaited(rpc.handler), rpc.gate)

    async def serve(_requests: object, context: Context) -> Any:
        call = AioCall(context, life.turns)
        try:
            return await handle(rpc, door, call, life.receiving)
        except Exception as error:
            await finish(context, error, life.status_of, call, name)

    return serve


def _awaited(handler: AnsweringHandler) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """A handler that returns the answer."""

    async def answer(message: bytes, call: AioCall) -> bytes:
        handler(message, call)
        return await call.answer()

    return answer
