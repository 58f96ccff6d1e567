"""What all rpcs have in common: a gate, a request that is read before it is believed, and statuses for errors.

gRPC would answer bytes that are no message, and any exception, with UNKNOWN and the exception's text; so its own
deserialisers are not used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from headrace.server.services.gate import Gate
from headrace.server.services.status import Answer, Context, Incident
from headrace.wire.errors import InvalidArgument

Rpc: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
M = TypeVar("M", bound=Message)


class Rpcs:
    """Makes the rpcs of those services whose calls come in by `gate`."""

    def __init__(self, incident: Incident, gate: Gate) -> None:
        self.gate = gate
        self._incident = incident

    def unary(self, handler: Callable[[Any], Awaitable[Message]], request: type[Message]) -> Rpc:
        """An rpc whose handler takes a message and returns one."""

        async def answer(data: bytes, _context: Context) -> bytes:
            response = await handler(parse(request, data))
            return response.SerializeToString()

        return self.raw_unary(answer)

    def raw_unary(self, handler: Callable[[bytes, Context], Awaitable[bytes]]) -> Rpc:
        """An rpc whose handler takes and returns bytes: it counts what it has before it parses it."""
        incident, gate = self._incident, self.gate

        async def answer(data: bytes, context: Context) -> bytes:
            async with Answer(incident, context):
                with gate:
                    return await handler(data, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    def watch(self, handler: Callable[[Any, Context], Awaitable[None]], request: type[Message]) -> Rpc:
        """An rpc whose handler takes a message and writes several, as bytes."""
        incident, gate = self._incident, self.gate

        async def answer(data: bytes, context: Context) -> None:
            async with Answer(incident, context):
                with gate:
                    await handler(parse(request, data), context)

        return grpc.unary_stream_rpc_method_handler(answer)

    def stream(self, handler: Callable[[Context], Awaitable[None]]) -> Rpc:
        """An rpc whose handler reads and writes bytes."""
        incident, gate = self._incident, self.gate

        async def serve(_requests: object, context: Context) -> None:
            async with Answer(incident, context):
                with gate:
                    await handler(context)

        return grpc.stream_stream_rpc_method_handler(serve)


def parse(kind: type[M], data: bytes) -> M:
    """Raises InvalidArgument for bytes that are no such message."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidArgument(f"a message of {len(data)} bytes is no {kind.DESCRIPTOR.name}") from None
