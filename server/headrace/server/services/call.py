"""An RPC as a service sees it, independent of the transport, and a service as the transport sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from headrace.server.services.gate import Gate

LARGE_REQUEST = 16 << 10
"""Bytes from which a request of one inference waits for its turn. A smaller one takes 0.1 ms, or 1 ms with strings."""


class Call(Protocol):
    """One call of a client. A handler raises errors, and the transport ends the call with their status."""

    end: object
    """What `read` returns once the client has half-closed."""

    @property
    def read(self) -> Callable[[], Coroutine[Any, Any, Any]]:
        """Read the next message, as bytes. Only one read may be pending at a time."""

    @property
    def write(self) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        """Send a message. Only one write may be pending at a time; raises CancelledError when the client has gone."""

    def turn(self) -> Awaitable[None] | None:
        """What to wait for before a large message is handled or written; None if the call may go on at once.

        Large messages take turns, so that many of them do not hold up the small ones of others.
        """

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, or None without one."""

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """The metadata that the client sent with the call, with keys in lower case."""

    @property
    def peer(self) -> Callable[[], str]:
        """The address of the client, as the transport writes it. The calls of one connection have the same."""


UnaryHandler: TypeAlias = Callable[[bytes, Call], Awaitable[bytes]]
ServerStreamingHandler: TypeAlias = Callable[[bytes, Call], Awaitable[None]]
BidirectionalHandler: TypeAlias = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response."""

    handler: UnaryHandler
    gate: Gate


@dataclass(frozen=True, slots=True)
class ServerStreaming:
    """One request, and any number of responses, which the handler writes."""

    handler: ServerStreamingHandler
    gate: Gate


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """The handler reads requests and writes responses."""

    handler: BidirectionalHandler
    gate: Gate


Rpc: TypeAlias = Unary | ServerStreaming | Bidirectional


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a .proto file: its full name, and its RPCs by name."""

    name: str
    rpcs: Mapping[str, Rpc]
