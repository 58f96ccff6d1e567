"""The RPCs of a service: bytes in, bytes out, through a gate.

Messages are parsed here, or by handlers that count what they have first. gRPC's own deserialisers are not used: they
answer what they cannot parse with UNKNOWN and the text of an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from headrace.server.services.call import Bidirectional, Call, StreamHandler, Unary, UnaryHandler, Watch
from headrace.server.services.gate import Gate
from headrace.wire.errors import InvalidArgument

M = TypeVar("M", bound=Message)


class Rpcs:
    """Makes the RPCs of services whose calls are admitted by `gate`."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def unary(self, handler: Callable[[Any], Awaitable[Message]], request: type[Message]) -> Unary:
        """The handler takes a message and returns one."""

        async def answer(data: bytes, _call: Call) -> bytes:
            response = await handler(parse(request, data))
            return response.SerializeToString()

        return Unary(answer, self.gate)

    def raw_unary(self, handler: UnaryHandler) -> Unary:
        """The handler takes and returns bytes: it counts what it has before it parses it."""
        return Unary(handler, self.gate)

    def watch(self, handler: Callable[[Any, Call], Awaitable[None]], request: type[Message]) -> Watch:
        """The handler takes a message and writes any number of them, as bytes."""

        async def answer(data: bytes, call: Call) -> None:
            await handler(parse(request, data), call)

        return Watch(answer, self.gate)

    def stream(self, handler: StreamHandler) -> Bidirectional:
        """The handler reads and writes bytes."""
        return Bidirectional(handler, self.gate)


def parse(kind: type[M], data: bytes) -> M:
    """Raises InvalidArgument for bytes that are not such a message."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidArgument(f"a message of {len(data)} bytes is not a valid {kind.DESCRIPTOR.name}") from None
