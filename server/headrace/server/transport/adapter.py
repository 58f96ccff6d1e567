"""From services to handlers of grpc.aio, and from its context to a `Call`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc

from headrace.server.services.call import LARGE_REQUEST, Bidirectional, Rpc, Service, Unary
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.receiving import Receiving
from headrace.server.transport.status import Context, Incident, finish
from headrace.wire.errors import InvalidArgument

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class GrpcCall:
    """`services.call.Call` over a context of grpc.aio."""

    __slots__ = ("_context", "_turns", "end", "peer", "read", "write")

    def __init__(self, context: Context, turns: MessageTurns) -> None:
        self._context = context
        self._turns = turns
        self.end: object = grpc.aio.EOF
        # Bound methods of the context itself: wrappers would cost every message two calls.
        self.read: Callable[[], Any] = context.read
        self.write: Callable[[bytes], Any] = context.write
        self.peer: Callable[[], str] = context.peer

    def turn(self) -> Awaitable[None] | None:
        return self._turns.take(self, self.peer)

    def time_remaining(self) -> float | None:
        return self._context.time_remaining()

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return [(key, value) for key, value in self._context.invocation_metadata() or ()]


def handlers(service: Service, incident: Incident, receiving: Receiving, turns: MessageTurns) -> grpc.GenericRpcHandler:
    """The handlers of a service. `incident` logs an unexpected error and says what the client is told.

    To gRPC every RPC has a stream of requests, which looks the same on the wire. With a single one, gRPC would receive
    the message before it calls a handler, and nothing could refuse it or end it meanwhile.
    """
    return grpc.method_handlers_generic_handler(
        service.name, {name: _handler(rpc, incident, receiving, turns) for name, rpc in service.rpcs.items()}
    )


def _handler(rpc: Rpc, incident: Incident, receiving: Receiving, turns: MessageTurns) -> Handler:
    gate = rpc.gate
    handler: Callable[..., Any] = rpc.handler
    single = not isinstance(rpc, Bidirectional)

    async def serve(_requests: object, context: Context) -> Any:
        task: asyncio.Task[object] | None = asyncio.current_task()
        assert task is not None
        call = GrpcCall(context, turns)
        receiving.add(task, context.peer)
        try:
            if not single:
                with gate:
                    return await handler(call)
            # A call that is refused need not send its message, and one that never sends it takes no place.
            gate.check()
            message = await context.read()
            if message is grpc.aio.EOF:
                raise InvalidArgument("the call ended without a request message")
            with gate:
                if len(message) >= LARGE_REQUEST and (turn := call.turn()) is not None:
                    await turn
                receiving.remove(task)
                return await handler(message, call)
        except asyncio.CancelledError:
            ended = receiving.error(task)
            if ended is None:
                raise
            await finish(context, ended, incident)
        except Exception as error:
            await finish(context, error, incident)
        finally:
            receiving.remove(task, None)

    if isinstance(rpc, Unary):
        return grpc.stream_unary_rpc_method_handler(serve)
    return grpc.stream_stream_rpc_method_handler(serve)
