"""What services ask of the rest of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.server.core.core import Core
from headrace.server.core.events import Event
from headrace.server.core.state import Stream
from headrace.wire.errors import Internal


class Desk(Protocol):
    """What a front asks of dispatch. A front tells the core what it has read, then says `act`."""

    @property
    def core(self) -> Core: ...
    def now(self) -> float: ...
    def act(self) -> None: ...
    async def changed(self, stream: Stream) -> bool: ...
    def handed_off(self, stream: Stream, events: Sequence[Event]) -> None: ...
    def flushed(self, stream: Stream) -> None: ...
    async def readable(self, stream: Stream) -> None: ...
    def leave(self, stream: Stream) -> None: ...
    def incident(self, error: BaseException) -> Internal: ...


@dataclass(frozen=True, slots=True)
class ModelState:
    """What has become of a model that the server was started with.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE. `reason` is a word or a sentence on it, or empty.
    """

    name: str
    version: str
    state: str
    reason: str


NO_CONTROL = "this server takes no model control; start it with --model-control"
"""What a client is told that may change nothing."""


class Control(Protocol):
    """What a front asks for clients that load and unload models."""

    @property
    def allowed(self) -> bool:
        """Whether clients may change anything."""

    def index(self) -> Sequence[ModelState]:
        """Every model that the server was started with, by name."""

    async def load(self, name: str) -> None:
        """Load a model from disk, anew if it is loaded. Raises PermissionDenied, NotFound and what loading raises."""

    async def unload(self, name: str) -> None:
        """Let a model go once its tickets in flight have ended. Raises PermissionDenied and NotFound."""
