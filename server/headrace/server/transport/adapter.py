"""From services to handlers of grpc.aio, and from its context to a `Call`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import grpc

from headrace.server.services.call import Bidirectional, Rpc, Service, Unary
from headrace.server.transport.status import Context, Incident, finish

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class GrpcCall:
    """`services.call.Call` over a context of grpc.aio."""

    __slots__ = ("_context", "peer", "read", "write")
    end: object = grpc.aio.EOF

    def __init__(self, context: Context) -> None:
        self._context = context
        # Bound methods of the context itself: wrappers would cost every message two calls.
        self.read: Callable[[], Any] = context.read
        self.write: Callable[[bytes], Any] = context.write
        self.peer: Callable[[], str] = context.peer

    def time_remaining(self) -> float | None:
        return self._context.time_remaining()

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return [(key, value) for key, value in self._context.invocation_metadata() or ()]


def handlers(service: Service, incident: Incident) -> grpc.GenericRpcHandler:
    """The handlers of a service. `incident` logs an unexpected error and says what the client is told."""
    return grpc.method_handlers_generic_handler(
        service.name, {name: _handler(rpc, incident) for name, rpc in service.rpcs.items()}
    )


def _handler(rpc: Rpc, incident: Incident) -> Handler:
    gate = rpc.gate
    if isinstance(rpc, Bidirectional):
        stream = rpc.handler

        async def serve(_requests: object, context: Context) -> None:
            try:
                with gate:
                    await stream(GrpcCall(context))
            except Exception as error:
                await finish(context, error, incident)

        return grpc.stream_stream_rpc_method_handler(serve)
    handler: Callable[[bytes, Any], Any] = rpc.handler

    async def answer(data: bytes, context: Context) -> Any:
        try:
            with gate:
                return await handler(data, GrpcCall(context))
        except Exception as error:
            await finish(context, error, incident)

    if isinstance(rpc, Unary):
        return grpc.unary_unary_rpc_method_handler(answer)
    return grpc.unary_stream_rpc_method_handler(answer)
