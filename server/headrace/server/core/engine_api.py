"""What an engine does for the dispatcher, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headrace.server.core.calls import Plan
from headrace.server.core.specs import ModelSpec
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError
from headrace.wire.tensors import Buffer


class Tensor(Protocol):
    """An output that has been computed. It never changes, whatever the engine runs later."""

    @property
    def datatype(self) -> Datatype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int:
        """Bytes of memory, which are those on the wire except for BYTES."""

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> Buffer:
        """The bytes as they go on the wire, whole or a slice along the leading axes (checked by the caller)."""


class Part(Protocol):
    """What one ticket brings to a run.

    `inline` are the bytes of `plan.inline`, `references` the tensors of `plan.references`; the inputs of `plan.zeros`
    are the engine's to make. `keep` says which of `plan.keep` somebody still wants (positions).
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
        """Of each input along the first axis, where the part may share a run."""


@dataclass(slots=True, eq=False)
class Run:
    """One inference in a slot, from the core's decision to start it until the engine says that it has ended.

    With several parts it is a batch: their inputs are joined along the first axis. Whoever holds the run keeps the
    memory of its inputs alive.
    """

    spec: ModelSpec
    slot: int
    parts: Sequence[Part]
    wanted: int
    """How many tickets still want their part of the result. The core counts them."""


@dataclass(slots=True)
class Ended:
    """How a run ended, and that its slot is free, unless `restoring`.

    `sent` has the tensors of `plan.outputs` for each part, `kept` those of `keep`, both in order (an output in both is
    one tensor); empty when the run was cancelled or failed. `times` are the seconds that it took to take the inputs
    over, to compute, and to read the outputs. `error` is whatever the runtime raised. `restoring`: the run has spoiled
    the compiled model of its slot, which can be used again once `Engine.restored` names it.
    """

    run: Run
    sent: Sequence[Sequence[Tensor]] = ()
    kept: Sequence[Sequence[Tensor]] = ()
    times: tuple[float, float, float] = (0.0, 0.0, 0.0)
    error: Exception | None = None
    restoring: bool = False


class End(NamedTuple):
    """What the core is told of a run that has ended: how, what its tickets fail with if they do, and when."""

    ended: Ended
    error: HeadraceError | None
    now: float


class Engine(Protocol):
    """Runs. All methods are called on one thread, and none of them blocks."""

    def start(self, run: Run) -> Ended | None:
        """Begin a run in a free slot; or do it in place, where that is quicker than handing it over: then it has ended.

        What cannot begin is reported as ended, with its error.
        """

    def follow(self, run: Run) -> Ended | None:
        """Do a run in place, in the slot of one that was just done so; None when it must be started.

        Then nothing of it has begun.
        """

    def cancel(self, run: Run) -> None:
        """Ask the runtime to stop a run whose result nobody wants. Its end is reported as that of any other run."""

    def collect(self) -> list[Ended]:
        """The runs that have completed since the last call. To be called after each wake-up."""

    def poll(self) -> list[Ended]:
        """The runs that failed or were cancelled, which wake nobody. To be called every few tens of milliseconds."""

    def restored(self) -> list[tuple[ModelSpec, int]]:
        """The slots that can be used again since the last call. To be called after each wake-up."""

    def on_ended(self, wake: Callable[[], None]) -> None:
        """Say who is to be woken, from any thread, when there is something to collect."""

    def unload(self, spec: ModelSpec) -> None:
        """Free a model of which nothing runs, and nothing will."""
