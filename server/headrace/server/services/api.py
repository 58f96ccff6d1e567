"""What services ask of the rest of the server.

Telling the core something and acting on what it then decides is one step here, so that a service cannot forget the
second half. The dispatcher provides `Streams`, `headrace.server.control` the `Control` of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol

from headrace.server.core.calls import Call
from headrace.server.core.events import Event
from headrace.server.core.limits import Limits
from headrace.server.core.models import Models
from headrace.server.core.quotas import MessageCharge, Quota
from headrace.server.core.state import DefinedCall, Stream
from headrace.wire.errors import HeadraceError, Internal
from headrace.wire.tensors import Buffer

P = ParamSpec("P")


class Commands(Protocol):
    """What the client of a stream can say; `Core` documents each."""

    def open(self, stream: Stream, ordered: bool, max_message_bytes: int) -> None: ...
    def define(self, stream: Stream, number: int, call: Call, nbytes: int) -> None: ...
    def reject(self, stream: Stream, error: HeadraceError, tag: int = 0) -> None: ...
    def charge(self, nbytes: int) -> MessageCharge: ...
    def infer(
        self,
        stream: Stream,
        tag: int,
        call: int | DefinedCall,
        inline: Sequence[Buffer],
        charge: MessageCharge,
        now: float,
        *,
        sources: Sequence[int] = (),
        timeout: float = 0.0,
        priority: int = 0,
    ) -> None: ...
    def fetch(
        self, stream: Stream, tag: int, source: int, output: str, slices: tuple[tuple[int, int], ...], now: float
    ) -> None: ...
    def release(self, stream: Stream, tag: int, outputs: Sequence[str]) -> None: ...
    def cancel(self, stream: Stream, tag: int, now: float) -> None: ...


class StreamHandle(Protocol):
    """A stream of the core, in the hands of the service that reads and writes for it."""

    @property
    def window(self) -> int: ...
    @property
    def ended(self) -> bool:
        """No further event will come."""

    @property
    def half_closed(self) -> bool: ...
    @property
    def has_events(self) -> bool:
        """Whether `take` would return any."""

    def submit(
        self, tell: Callable[Concatenate[Commands, Stream, float, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call `tell(commands, stream, now, ...)`, then act: the commands of one message take effect together."""

    def half_close(self) -> None:
        """No more commands will come."""

    def take(self) -> list[Event]:
        """The events of the next frame. `handed_off` follows when they are being written, then `flushed`."""

    def handed_off(self, events: Sequence[Event]) -> None:
        """The transport has begun to write these events: their tickets are no longer in flight."""

    def flushed(self) -> None:
        """The transport has written them."""

    async def changed(self) -> bool:
        """Wait for events, though another task may take them first. False when the stream has ended."""

    async def readable(self) -> None:
        """Wait until commands may be read: a client that does not take its events blocks only itself."""

    def close(self) -> None:
        """The client has gone, or has all that it came for. Harmless when repeated."""


class View(Protocol):
    """What a service may look at. It changes nothing there."""

    @property
    def limits(self) -> Limits: ...
    @property
    def models(self) -> Models: ...
    @property
    def keep(self) -> Quota: ...
    @property
    def queue(self) -> Quota: ...
    @property
    def draining(self) -> bool: ...
    @property
    def streams(self) -> Sequence[Stream]:
        """Those that are open."""


class Streams(Protocol):
    """Opens streams. Times are seconds of the event loop's clock."""

    @property
    def view(self) -> View: ...
    def open(self, *, unary: bool = False, window: int = 0) -> StreamHandle:
        """As `Core.open_stream`."""

    def now(self) -> float: ...
    def incident(self, error: BaseException) -> Internal:
        """Log an unexpected error; returns what the client is told instead."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that the server was started with.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE; `reason` is a word or a sentence about it, or empty.
    """

    name: str
    version: str
    state: str
    reason: str


NO_CONTROL = "this server does not let clients control models; start it with --model-control"


class Control(Protocol):
    """Models that clients load and unload."""

    @property
    def allowed(self) -> bool:
        """Whether clients may change anything."""

    def index(self) -> Sequence[ModelState]:
        """Every model that the server was started with, by name."""

    async def load(self, name: str) -> None:
        """Load a model from disk, anew if it is loaded. Raises PermissionDenied, NotFound and what loading raises."""

    async def unload(self, name: str) -> None:
        """Let a model go once its tickets in flight have ended. Raises PermissionDenied and NotFound."""
