"""What a transport and an application need of a stream, whether it has one connection or outlives several. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.ticket_state import TicketState
from headrace.wire.errors import HeadraceError


class StreamState(Protocol):
    """`StreamProtocol` explains the methods."""

    max_message_bytes: int

    @property
    def hello(self) -> Hello | None: ...
    @property
    def in_flight(self) -> Mapping[int, Any]: ...
    @property
    def draining(self) -> bool: ...
    @property
    def closed(self) -> HeadraceError | None: ...
    @property
    def error(self) -> HeadraceError | None: ...
    @property
    def free_window(self) -> int: ...
    @property
    def finished(self) -> bool: ...

    def submit(
        self,
        ticket: TicketState,
        model: str,
        version: str | int | None,
        inputs: Inputs,
        outputs: Iterable[str] | None,
        keep: Iterable[str],
        timeout: float | None,
        priority: int,
        keep_inputs: Iterable[str] = (),
    ) -> None: ...
    def fetch(self, ticket: TicketState, source: TicketState, output: str, slices: Slices) -> None: ...
    def release(self, source: TicketState, names: Sequence[str]) -> None: ...
    def cancel(self, ticket: TicketState) -> None: ...
    def close(self) -> None: ...
    def next_message(self) -> bytes | None: ...
    def receive(self, message: bytes) -> list[TicketState]: ...
    def end(self, error: HeadraceError) -> list[TicketState]: ...
    def load(self) -> str: ...
