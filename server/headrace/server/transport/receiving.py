"""The calls that may be receiving a message: gRPC holds what has come of it, and no account of the budget knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.wire.errors import HeadraceError, ResourceExhausted


class ReceivingCall(Protocol):
    """A call, as far as it can be ended from outside. `error` is what it was ended with, if it was."""

    error: HeadraceError | None

    @property
    def peer(self) -> Callable[[], str]: ...
    def end_with(self, error: HeadraceError) -> None:
        """Set `error`, and end the handler, which then ends the call with it."""


class Receiving:
    """Calls, oldest first. What is done for each call costs as little as possible."""

    __slots__ = ("_calls", "remove")

    def __init__(self) -> None:
        self._calls: dict[ReceivingCall, None] = {}
        self.remove = self._calls.pop
        """`remove(call, None)`: it will not read any more. It is the method of the dict itself."""

    def add(self, call: ReceivingCall) -> None:
        """The handler of a call is about to read."""
        self._calls[call] = None

    def end_some(self) -> tuple[int, str]:
        """End half the calls of the host that has the most, the latest first. Returns how many, and the host.

        A host may have many connections, so they are counted together. Clients with a few calls lose them only when
        nobody has more.
        """
        hosts: dict[str, list[ReceivingCall]] = {"": []}
        for call in self._calls:
            if call.error is None:
                hosts.setdefault(_host(call.peer()), []).append(call)
        host, most = max(hosts.items(), key=lambda item: len(item[1]))
        ending = most[len(most) // 2 :]
        error = ResourceExhausted("the server is short of memory for the messages that it receives")
        for call in ending:
            call.end_with(error)
        return len(ending), host

    def __repr__(self) -> str:
        return f"<Receiving: {len(self._calls)} calls>"


def _host(peer: str) -> str:
    """The peer without its port: "ipv4:10.0.0.1:5000" is of "ipv4:10.0.0.1"."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer
