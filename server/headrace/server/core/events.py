"""What the server says on a stream, before it is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from headrace.server.core.specs import Port
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.server.core.engine_api import Tensor
    from headrace.server.core.tickets import Ticket


class Shaped(Protocol):
    """A tensor, as far as a layout describes it."""

    @property
    def datatype(self) -> Datatype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


Described: TypeAlias = tuple[Port, Shaped]
FETCHED_OVERHEAD = 512
"""Bytes of a Fetched besides its tensor and the name of its output, at most."""
FAILED_OVERHEAD = 64
"""Bytes of a Failed besides its message, at most."""


@dataclass(slots=True)
class Outline:
    """Datatype and shape of a tensor without its memory, which must not live on in an unsent event."""

    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(slots=True)
class Done:
    """`sent` are the tensors of the plan's outputs, `kept` describes what stays.

    Times in seconds; `nbytes` of what is sent.
    """

    ticket: Ticket
    sent: Sequence[Tensor]
    kept: Sequence[Described]
    nbytes: int
    overhead: int
    waiting: float
    queued: float
    running: float


@dataclass(slots=True)
class Failed:
    """`ticket` is None when none was admitted: a refusal, or (tag 0) what could not have a ticket."""

    ticket: Ticket | None
    tag: int
    error: HeadraceError
    nbytes: int = 0
    overhead: int = field(init=False)

    def __post_init__(self) -> None:
        # Where it was raised the whole message was at hand, and an unsent event would keep it in memory.
        self.error.__traceback__ = self.error.__context__ = self.error.__cause__ = None
        self.overhead = FAILED_OVERHEAD + len(self.error.message.encode())


@dataclass(slots=True)
class Fetched:
    """`nbytes` of the slice."""

    ticket: Ticket
    port: Port
    tensor: Tensor
    slices: Sequence[tuple[int, int]]
    shape: tuple[int, ...]
    nbytes: int
    overhead: int


@dataclass(slots=True)
class Hello:
    window: int
    max_message_bytes: int
    keep_bytes: int
    keep_seconds: float
    ticket: None = None
    nbytes: int = 0
    overhead: int = 128


@dataclass(slots=True)
class Draining:
    grace: float
    ticket: None = None
    nbytes: int = 0
    overhead: int = 32


Event: TypeAlias = Done | Failed | Fetched | Hello | Draining
