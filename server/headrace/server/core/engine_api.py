"""What an engine does for the dispatcher, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from headrace.server.core.calls import Plan
from headrace.server.core.specs import ModelSpec
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError
from headrace.wire.tensors import Buffer

Slices: TypeAlias = tuple[tuple[int, int], ...]
"""A slice of a tensor: start and stop along each leading axis. The other axes are whole; `()` is the whole tensor."""


class Tensor(Protocol):
    """An output that was computed, or an input that is kept. It never changes, whatever the engine runs later."""

    @property
    def datatype(self) -> Datatype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int:
        """Bytes of memory; the same number as on the wire, except for BYTES."""

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> Buffer:
        """The bytes for the wire: the whole tensor, or a slice along the leading axes (checked by the caller)."""

    def sliced(self, slices: Slices) -> Tensor:
        """A slice along the leading axes (checked by the caller), as a tensor. Takes no time and no memory.

        Its bytes are a view of this tensor's if they are contiguous; otherwise each `read` of it copies them.
        """


class Variables(Protocol):
    """What the variables of a model hold between two runs. It never changes."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""


class Part(Protocol):
    """One ticket's share of a run.

    `inline` are the bytes of `plan.inline`, `references` the tensors of `plan.references`; the engine makes the inputs
    of `plan.zeros`. `keep` are the positions in `plan.keep` of what still has a holder. `variables` is what the
    variables of the model hold when the run begins; None for what they begin with.
    """

    @property
    def plan(self) -> Plan | None: ...
    @property
    def inline(self) -> Sequence[Buffer]: ...
    @property
    def references(self) -> Sequence[Tensor]: ...
    @property
    def keep(self) -> Sequence[int]: ...
    @property
    def rows(self) -> int:
        """Of each input along the first axis, if the part may share a run."""

    @property
    def variables(self) -> Variables | None: ...
    @property
    def wants_variables(self) -> bool:
        """Whether the core wants what the variables hold after the run."""


@dataclass(slots=True, eq=False)
class Run:
    """One inference in a slot, from the core's decision to start it until the engine says that it has ended.

    With several parts it is a batch: their inputs are joined along the first axis. A reference to the run keeps the
    memory of its inputs alive.
    """

    spec: ModelSpec
    slot: int
    parts: Sequence[Part]
    wanted: int
    """How many tickets still want their share of the result. The core counts them."""
    expected: float | None = None
    """What the core expects it to take of the processor, in seconds; None if it does not wait for the processor."""


@dataclass(slots=True)
class Ended:
    """How a run ended, and that its slot is free, unless `restoring`.

    `sent` has the tensors of `plan.outputs` for each part, `kept` those of `keep`, both in order (an output in both is
    one tensor); empty when the run was cancelled or failed. `times` are the seconds to set the inputs, to compute, and
    to read the outputs. `variables` is what the variables hold now, if a part wants them. `error` is what the runtime
    raised. `restoring`: the run has spoiled the compiled model of its slot, which can be used again once
    `Engine.restored` names it. `failures` are the parts, by position, that have failed by themselves while the others
    ran: `sent` and `kept` have nothing for them. `direct`: the core was told that it has run in place.
    """

    run: Run
    sent: Sequence[Sequence[Tensor]] = ()
    kept: Sequence[Sequence[Tensor]] = ()
    times: tuple[float, float, float] = (0.0, 0.0, 0.0)
    variables: Variables | None = None
    error: Exception | None = None
    restoring: bool = False
    failures: Mapping[int, HeadraceError] = field(default_factory=dict)
    direct: bool = False


class End(NamedTuple):
    """How a run has ended, what its tickets fail with if they do, and when."""

    ended: Ended
    error: HeadraceError | None
    now: float


class Engine(Protocol):
    """Executes runs. All methods are called on one thread, and none blocks."""

    def start(self, run: Run, *, in_place: bool = True) -> Ended | None:
        """Begin a run in a free slot; or run it in place, if that is faster than a hop to a thread, and return its end.

        Without `in_place` there is no time for that now. A run that cannot begin is returned as ended, with its error.
        """

    def follow(self, run: Run) -> Ended | None:
        """Run in place, in the slot of a run that has just ended in place. None when it has to be started instead."""

    def cancel(self, run: Run) -> None:
        """Ask the runtime to stop a run whose result is not wanted. Its end is reported like that of any run."""

    def collect(self) -> list[Ended]:
        """The runs that have completed since the last call. To be called after every wake-up."""

    def poll(self) -> list[Ended]:
        """The runs that failed or were cancelled, which do not cause a wake-up. To be called every 10 to 50 ms."""

    def restored(self) -> list[tuple[ModelSpec, int, bool]]:
        """The slots that have been restored since the last call, and whether another compiled model has replaced the
        one that was there. To be called after every wake-up."""

    def on_ended(self, wake: Callable[[], None]) -> None:
        """Set the function to call, on any thread, when there is something to collect."""

    def unload(self, spec: ModelSpec) -> None:
        """Free a model that has no run, and will have none."""
