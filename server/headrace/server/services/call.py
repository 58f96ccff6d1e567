"""An RPC as a service sees it, independent of the transport, and a service as the transport sees it.

What happens for every message of an inference goes by callbacks, the rest by coroutines: waking a task takes as long as
reading a small message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from headrace.server.services.gate import Gate

LARGE_REQUEST = 16 << 10
"""Bytes from which a request of one inference waits for its turn. A smaller one takes 0.1 ms, or 1 ms with strings."""


class Call(Protocol):
    """One call of a client. A handler raises errors, and the transport ends the call with their status."""

    end: object
    """What `read` returns once the client has half-closed."""
    reported: bool
    """Whether the error that the call is about to end with is in the log already: False, until a handler says so."""
    client: Hashable
    """Whose call it is: an identity's, which may have several connections, or else one connection's."""

    @property
    def read(self) -> Callable[[], Coroutine[Any, Any, Any]]:
        """Read the next message, as bytes. Only one read may be pending at a time."""

    @property
    def write(self) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        """Send a message. Only one write may be pending at a time; raises CancelledError when the client has gone."""

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        """Read the next message, then call `callback` with it, or with None once the client has half-closed.

        It is not called before this returns. It may still be called when the handler has ended.
        """

    def write_then(self, message: bytes, callback: Callable[[bool], None], *, more: bool = False) -> None:
        """Send a message, then call `callback`, with False if the client has gone.

        As `read_then` calls it, and as `write` only one at a time. `more`: another message or the end of the call
        follows at once, with which a small one may be sent.
        """

    def turn(self) -> asyncio.Future[None] | None:
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


class AnswerableCall(Call, Protocol):
    """A call that is answered by one of two methods, at once or later. Whatever comes after its end has no effect."""

    on_end: Callable[[], None] | None
    """Called when the call ends without an answer: its client has gone, or the server ends it."""

    def respond(self, response: bytes) -> None:
        """End the call with its response."""

    def fail(self, error: Exception) -> None:
        """End the call with the status of an error."""


UnaryHandler: TypeAlias = Callable[[bytes, Call], Awaitable[bytes]]
ServerStreamingHandler: TypeAlias = Callable[[bytes, Call], Awaitable[None]]
AnsweringHandler: TypeAlias = Callable[[bytes, AnswerableCall], None]
BidirectionalHandler: TypeAlias = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response."""

    handler: UnaryHandler
    gate: Gate


@dataclass(frozen=True, slots=True)
class Answering:
    """One request, one response, without a task for each call: the handler answers, or sees to it. It may raise."""

    handler: AnsweringHandler
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


Rpc: TypeAlias = Unary | Answering | ServerStreaming | Bidirectional


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a .proto file: its full name, and its RPCs by name."""

    name: str
    rpcs: Mapping[str, Rpc]
