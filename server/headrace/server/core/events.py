"""What the server says on a stream, before it is encoded: values that know a ticket by its tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from headrace.server.core.calls import Plan
from headrace.server.core.engine_api import Tensor
from headrace.server.core.specs import Port
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError, forget_frames


class Shaped(Protocol):
    """A tensor, as far as a layout describes it."""

    @property
    def datatype(self) -> Datatype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


Described: TypeAlias = tuple[Port, Shaped]
FETCHED_OVERHEAD_BYTES = 512
"""Size of a Fetched without its tensor and the name of its output, at most."""
FAILED_OVERHEAD_BYTES = 64
"""Size of a Failed without its message, at most."""


@dataclass(slots=True)
class Outline:
    """Datatype and shape of a tensor without its memory, which an unsent event must not keep alive."""

    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(slots=True)
class Done:
    """The result of an Infer.

    `sent` are the tensors of the plan's outputs, `kept` describes the outputs that stay on the server. Times are
    seconds, `nbytes` is the size of what is sent. `shared` is how many tickets the run had, `direct` whether it was in
    place.
    """

    tag: int
    plan: Plan
    sent: Sequence[Tensor]
    kept: Sequence[Described]
    nbytes: int
    overhead: int
    waiting: float
    queued: float
    running: float
    shared: int = 1
    direct: bool = False
    admitted = True


@dataclass(slots=True)
class Failed:
    """`admitted` is False for a refusal, and for what cannot have a ticket (tag 0).

    `model` is the name that the client has used, as far as it is known, `version` empty unless there is such a model.
    Times are seconds, up to the failure.
    """

    tag: int
    error: HeadraceError
    admitted: bool
    nbytes: int = 0
    model: str = ""
    version: str = ""
    waiting: float = 0.0
    queued: float = 0.0
    running: float = 0.0
    overhead: int = field(init=False)

    def __post_init__(self) -> None:
        # The frames of its traceback refer to the whole message, and an unsent event would keep that in memory.
        forget_frames(self.error)
        self.overhead = FAILED_OVERHEAD_BYTES + len(self.error.message.encode())


@dataclass(slots=True)
class Fetched:
    """The result of a Fetch; `shape` and `nbytes` are those of the slice."""

    tag: int
    port: Port
    tensor: Tensor
    slices: Sequence[tuple[int, int]]
    shape: tuple[int, ...]
    nbytes: int
    overhead: int
    admitted = True


@dataclass(slots=True)
class Hello:
    window: int
    max_message_bytes: int
    keep_bytes: int
    keep_seconds: float
    queue_bytes: int
    tag = 0
    admitted = False
    nbytes = 0
    overhead = 128


@dataclass(slots=True)
class Draining:
    """`stream_only`: the stream is asked to move, and the server goes on."""

    grace: float
    stream_only: bool
    tag = 0
    admitted = False
    nbytes = 0
    overhead = 32


Event: TypeAlias = Done | Failed | Fetched | Hello | Draining
