"""The way into every RPC: whether a call may be made, and whom it belongs to, is asked before anything else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeAlias

from headrace.server.core.clients import Client
from headrace.wire.errors import HeadraceError


class ArrivingCall(Protocol):
    """A call, as far as it says who makes it. `client` is whom it belongs to."""

    client: Hashable

    @property
    def peer(self) -> Callable[[], str]: ...
    def metadata(self) -> Sequence[tuple[str, str | bytes]]: ...
    def certificate_names(self) -> Sequence[str]: ...
    def end_with(self, error: HeadraceError) -> None: ...


Ask: TypeAlias = Callable[[ArrivingCall], Hashable]
"""Returns the client that makes a call, or None if that need not be known; raises the error that it ends with."""


class Door:
    """The way into one RPC."""

    __slots__ = ("_open", "ask")

    def __init__(self, ask: Ask | None, open_: dict[ArrivingCall, Door]) -> None:
        self.ask = ask
        self._open = open_

    def admit(self, call: ArrivingCall) -> None:
        """Set whose call it is: the client's, if that is known, else its connection's. Raises what it ends with."""
        client = None if self.ask is None else self.ask(call)
        call.client = call.peer() if client is None else client

    def opened(self, call: ArrivingCall) -> None:
        """The call is asked again when there may be another answer, until it is `closed`: it may last for long, or
        not have sent its message yet."""
        if self.ask is not None:
            self._open[call] = self
            if isinstance(call.client, Client):
                call.client.calls += 1

    def closed(self, call: ArrivingCall) -> None:
        if self.ask is not None and self._open.pop(call, None) is not None and isinstance(call.client, Client):
            call.client.calls -= 1


class Entrance:
    """The doors of all RPCs. `ask_for` is given the path of each; without it everybody may call everything."""

    def __init__(self, ask_for: Callable[[str], Ask] | None = None) -> None:
        self._ask_for = ask_for
        self._open: dict[ArrivingCall, Door] = {}

    def door(self, path: str) -> Door:
        return Door(None if self._ask_for is None else self._ask_for(path), self._open)

    def ask_again(self) -> None:
        """End the open calls that may not be made any more."""
        for call, door in tuple(self._open.items()):
            try:
                if door.ask is not None:
                    door.ask(call)
            except HeadraceError as error:
                door.closed(call)
                call.end_with(error)

    def __repr__(self) -> str:
        return f"<Entrance{'' if self._ask_for is None else ', guarded'}: {len(self._open)} calls>"
