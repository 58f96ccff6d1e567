"""The RPCs of a service: bytes in, bytes out, through a gate.

Messages are parsed here, or by handlers that first count what a message contains. gRPC's own deserializers are not
used: when they cannot parse a message, they answer with UNKNOWN and the text of an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from headrace.server.services.call import (
    Answering,
    AnsweringHandler,
    Bidirectional,
    BidirectionalHandler,
    Call,
    ServerStreaming,
    Unary,
)
from headrace.server.services.gate import Gate
from headrace.wire.errors import InvalidArgument
from headrace.wire.fields import has_more_fields

MAX_BYTES = 1 << 20
"""The limit for a message that carries no tensors."""
MAX_FIELDS = 1024
"""The limit for the fields of such a message, with the entries of its maps."""
COUNTED_FROM = 2 * MAX_FIELDS
"""Bytes from which on a message can have more fields: each takes at least two."""

M = TypeVar("M", bound=Message)


class RpcFactory:
    """Makes RPCs whose calls are admitted by `gate`."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def unary(self, handler: Callable[[Any], Awaitable[Message]], request: type[Message]) -> Unary:
        """A unary RPC whose handler accepts a message and returns one."""

        async def respond(data: bytes, _call: Call) -> bytes:
            response = await handler(parse(request, data))
            return response.SerializeToString()

        return Unary(respond, self.gate)

    def unary_of_client(self, handler: Callable[[Any, Hashable], Awaitable[Message]], request: type[Message]) -> Unary:
        """A unary RPC whose handler accepts a message and the client of the call, and returns a message."""

        async def respond(data: bytes, call: Call) -> bytes:
            response = await handler(parse(request, data), call.client)
            return response.SerializeToString()

        return Unary(respond, self.gate)

    def answering(self, handler: AnsweringHandler) -> Answering:
        """A unary RPC whose handler accepts and returns bytes: it counts what a message contains before parsing it."""
        return Answering(handler, self.gate)

    def server_streaming(
        self, handler: Callable[[Any, Call], Awaitable[None]], request: type[Message]
    ) -> ServerStreaming:
        """A server-streaming RPC whose handler accepts a message and writes any number of them, as bytes."""

        async def respond(data: bytes, call: Call) -> None:
            await handler(parse(request, data), call)

        return ServerStreaming(respond, self.gate)

    def bidirectional(self, handler: BidirectionalHandler) -> Bidirectional:
        """A bidirectional RPC whose handler reads and writes bytes."""
        return Bidirectional(handler, self.gate)


def parse(message_class: type[M], data: bytes) -> M:
    """Parse a message that carries no tensors.

    Raises InvalidArgument when the bytes are not valid, or are more than such a message has any use for: a map of
    millions of entries would hold up the event loop for seconds.
    """
    name = message_class.DESCRIPTOR.name
    try:
        if len(data) > COUNTED_FROM:
            if len(data) > MAX_BYTES:
                raise InvalidArgument(f"{name} has {len(data)} bytes; the limit is {MAX_BYTES}")
            if has_more_fields(data, MAX_FIELDS):
                raise InvalidArgument(f"{name} has more than {MAX_FIELDS} fields")
        return message_class.FromString(data)
    except (DecodeError, IndexError):
        raise InvalidArgument(f"a message of {len(data)} bytes is not a valid {name}") from None
