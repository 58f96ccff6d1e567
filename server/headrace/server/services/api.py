"""What services need from the rest of the server.

Each method changes the core and carries out what the core then decides in one step, so that a service cannot forget the
second half. The dispatcher provides `Streams`, and `headrace.server.lifecycle` provides `Control`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol

from headrace.server.core.accounts import Accounts
from headrace.server.core.calls import Call
from headrace.server.core.counts import Counts
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Slices
from headrace.server.core.events import Event
from headrace.server.core.limits import Limits
from headrace.server.core.models import Models
from headrace.server.core.quotas import MessageCharge
from headrace.server.core.sequences import Step
from headrace.server.core.state import Stream
from headrace.wire.errors import HeadraceError
from headrace.wire.tensors import Buffer

P = ParamSpec("P")


class Commands(Protocol):
    """The commands of a stream's client. `Core` documents each of them."""

    @property
    def counts(self) -> Counts: ...
    def open(self, stream: Stream, ordered: bool, max_message_bytes: int, *, can_move: bool = False) -> None: ...
    def define(self, stream: Stream, number: int, call: Call, nbytes: int) -> None: ...
    def reject(self, stream: Stream, error: HeadraceError, tag: int = 0, *, model: str = "") -> None: ...
    def charge(self, stream: Stream, nbytes: int) -> MessageCharge: ...
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
        slices: Sequence[Slices] = (),
        timeout: float = 0.0,
        queue_timeout: float = 0.0,
        priority: int = 0,
        step: Step | None = None,
    ) -> None: ...
    def miss_step(self, model: str, step: Step, error: HeadraceError) -> None: ...
    def fetch(self, stream: Stream, tag: int, source: int, output: str, slices: Slices, now: float) -> None: ...
    def release(self, stream: Stream, tag: int, outputs: Sequence[str]) -> None: ...
    def cancel(self, stream: Stream, tag: int, now: float) -> None: ...


class StreamHandle(Protocol):
    """A stream of the core, for the service that reads and writes its messages."""

    on_news: Callable[[], None] | None
    """Called when there are events, perhaps taken already, or the stream has ended; also during `submit` and the like,
    so it has to leave what it does about it for later."""
    on_readable: Callable[[], None] | None
    """Called in the same way, once, when commands may be read again."""

    @property
    def window(self) -> int: ...
    @property
    def ended(self) -> bool:
        """Whether the stream has ended: there will be no more events."""

    @property
    def half_closed(self) -> bool: ...
    @property
    def was_asked_to_move(self) -> bool:
        """Whether the stream alone ends, and the server goes on."""

    @property
    def in_flight(self) -> int: ...
    @property
    def has_events(self) -> bool:
        """Whether `take` would return any events."""

    def submit(
        self, apply: Callable[Concatenate[Commands, Stream, float, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call `apply(commands, stream, now, ...)`, then act: the commands of one message take effect together."""

    def half_close(self) -> None:
        """The client will send no more commands."""

    def take(self) -> list[Event]:
        """Take the events of the next frame. Call `handed_off` once their write has begun, then `flushed`."""

    def handed_off(self, events: Sequence[Event]) -> None:
        """The transport has begun to write these events, so their tickets are no longer in flight."""

    def flushed(self) -> None:
        """The transport has written the events."""

    @property
    def may_read(self) -> bool:
        """Whether commands may be read: a client that does not read its events blocks only itself."""

    def close(self) -> None:
        """End the stream: its client has gone, or has all its results. May be called more than once."""


class View(Protocol):
    """The state of the server, read-only."""

    @property
    def limits(self) -> Limits: ...
    @property
    def models(self) -> Models: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def draining(self) -> bool: ...
    @property
    def streams(self) -> Collection[Stream]:
        """The open streams."""


class Streams(Protocol):
    """Opens streams. Times are in seconds of the event loop's clock."""

    @property
    def view(self) -> View: ...
    def open(self, owner: Hashable, *, unary: bool = False, window: int = 0) -> StreamHandle:
        """Open a stream of `owner`, the client of the call: turns go round clients first. See `Core.open_stream`."""

    def request_failed(self, model: str, version: str, error: HeadraceError) -> None:
        """Count a request that has failed before it became an Infer. It may name no model that there is."""

    def now(self) -> float: ...
    def incident(self, error: BaseException) -> HeadraceError:
        """Log an unexpected error. Returns the error to send to the client instead."""


class Readiness(Protocol):
    """What the server tells probes about itself."""

    def ready(self) -> bool:
        """Whether the server wants work: all models have been loaded, and it is not about to stop."""

    def serving(self) -> bool:
        """Whether a model that is loaded may be used: the server is not about to stop."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A version of a model that the server knows, or a model of which it knows no version: that is then empty.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE; `reason` explains it in a word or a sentence, or is empty.
    """

    name: str
    version: str
    state: str
    reason: str


CONTROL_DISABLED = "this server does not let clients control models; start it with --model-control"


class Control(Protocol):
    """Loads and unloads models for clients."""

    @property
    def allowed(self) -> bool:
        """Whether clients may load and unload models."""

    def index(self) -> Sequence[ModelState]:
        """The state of every version that the server knows, sorted by name and number."""

    async def load(self, name: str) -> None:
        """Load or reload a model from disk: the versions that its policy chooses.

        `name` is looked up among what is on disk, and is never a path. Raises PermissionDenied, NotFound, and the error
        of a load that fails.
        """

    async def unload(self, name: str) -> None:
        """Unload all versions of a model; its tickets in flight still end. Raises PermissionDenied and NotFound."""
