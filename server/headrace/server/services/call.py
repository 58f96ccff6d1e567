"""An RPC as a service sees it, whatever transport is below; and a service as the transport sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from headrace.server.services.gate import Gate


class Call(Protocol):
    """One call of a client. Errors are raised: the transport finishes the call with their status."""

    end: object
    """What `read` returns once the client has half-closed."""

    @property
    def read(self) -> Callable[[], Coroutine[Any, Any, Any]]:
        """The next message, as bytes. One read at a time."""

    @property
    def write(self) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        """Send a message. One write at a time; raises CancelledError when the client has gone."""

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None without one."""

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the client sent with the call, keys in lower case."""

    def peer(self) -> str:
        """The address of the client, as the transport writes it."""


UnaryHandler: TypeAlias = Callable[[bytes, Call], Awaitable[bytes]]
WatchHandler: TypeAlias = Callable[[bytes, Call], Awaitable[None]]
StreamHandler: TypeAlias = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Unary:
    """One message in, one out."""

    handler: UnaryHandler
    gate: Gate


@dataclass(frozen=True, slots=True)
class Watch:
    """One message in, any number out, which the handler writes."""

    handler: WatchHandler
    gate: Gate


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """The handler reads and writes."""

    handler: StreamHandler
    gate: Gate


Rpc: TypeAlias = Unary | Watch | Bidirectional


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a .proto file: its full name, and its RPCs by name."""

    name: str
    rpcs: Mapping[str, Rpc]
