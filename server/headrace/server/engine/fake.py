"""An engine without a runtime, for tests of the layers above it.

Models are functions, and tests decide when runs end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from headrace.server.core.engine_api import Ended, Part, Run, Tensor
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.kept_inputs import kept_input
from headrace.server.engine.run_inputs import inputs_of
from headrace.server.engine.tensors import OutputTensor
from headrace.wire.tensors import from_wire, to_wire

Arrays = Mapping[str, npt.NDArray[Any]]
Function = Callable[[dict[str, npt.NDArray[Any]]], Arrays]
"""Computes outputs from inputs, by the names of the ports. An exception makes the run fail with it."""


@dataclass(frozen=True, slots=True)
class Script:
    """When the runs of a model end: as soon as they start, or as follows.

    `held`: not before `finish` or `fail`. `polls`: during that poll after the start, counting from 1. `ignores_cancel`:
    a cancelled run ends when it would have ended anyway. `spoils`: a run that fails spoils its slot, until `restore`.
    """

    held: bool = False
    polls: int = 0
    ignores_cancel: bool = False
    spoils: bool = False


AT_ONCE = Script()


@dataclass(slots=True)
class _Running:
    script: Script
    function: Function
    polls: int = 0
    cancelled: bool = False


class FakeEngine:
    """An `engine_api.Engine` that reports like the real one: completions wake the caller, failures wait for a poll.

    It asserts what an engine may expect: no run starts in a slot that is running or being restored, and a run has all
    of its inputs.
    """

    def __init__(self) -> None:
        self.started: list[Run] = []
        """Every run, in the order of the starts."""
        self._models: dict[int, tuple[ModelSpec, Function, Script]] = {}
        self._running: dict[Run, _Running] = {}
        self._ended: dict[Run, Ended] = {}
        self.spoiled: set[tuple[int, int]] = set()
        """The identity of the spec and the number of each slot that is being restored."""
        self._restored: list[tuple[ModelSpec, int, bool]] = []
        self._wake: Callable[[], None] = lambda: None

    def add(self, spec: ModelSpec, function: Function, script: Script = AT_ONCE) -> ModelSpec:
        """Declare a model, and how its runs go. Runs name it by this very spec."""
        self._models[id(spec)] = (spec, function, script)
        return spec

    @property
    def running(self) -> list[Run]:
        """The runs whose end has not been reported, oldest first."""
        return list(self._running)

    def finish(self, run: Run) -> None:
        """Complete a run with the result of its model's function, or without one if it was cancelled."""
        state = self._undecided(run)
        try:
            ended = Ended(run) if state.cancelled else result_of(run, state.function)
        except Exception as error:
            self.fail(run, error)
        else:
            self._ended[run] = ended
            self._wake()

    def fail(self, run: Run, error: Exception) -> None:
        """Make a run fail, without waking the caller."""
        spoils = self._undecided(run).script.spoils
        self._ended[run] = Ended(run, error=error, restoring=spoils)
        if spoils:
            self.spoiled.add((id(run.spec), run.slot))

    def restore(self, spec: ModelSpec, slot: int) -> None:
        """Make a spoiled slot usable again."""
        self.spoiled.remove((id(spec), slot))
        self._restored.append((spec, slot, False))
        self._wake()

    def restored(self) -> list[tuple[ModelSpec, int, bool]]:
        """The slots that have been restored since the last call."""
        restored, self._restored = self._restored, []
        return restored

    def on_ended(self, wake: Callable[[], None]) -> None:
        """Set the function that wakes the caller."""
        self._wake = wake

    def start(self, run: Run, *, in_place: bool = True) -> None:
        """Start a run. Raises AssertionError when it breaks the contract."""
        spec, function, script = self._models[id(run.spec)]
        assert 0 <= run.slot < spec.slots, f"model {spec.name!r} has no slot {run.slot}"
        assert (id(spec), run.slot) not in self.spoiled, f"slot {run.slot} of model {spec.name!r} is spoiled"
        for other in self._running:
            same = other.spec is spec and other.slot == run.slot
            assert not same, f"slot {run.slot} of model {spec.name!r} has a run"
        assert run.parts, "the run has no parts"
        assert len(run.parts) == 1 or sum(part.rows for part in run.parts) <= spec.batch, "the batch has too many rows"
        for part in run.parts:
            assert part.plan is not None
            assert part.plan.spec is spec or spec.pruned_to, "a part belongs to another model"
            assert part.plan.asked <= {port.index for port in spec.outputs}, "an output is not computed"
            assert len(part.inline) == len(part.plan.inline), "the inline inputs differ from the plan"
            assert len(part.references) == len(part.plan.references), "the references differ from the plan"
        self.started.append(run)
        self._running[run] = _Running(script, function)
        if not (script.held or script.polls):
            self.finish(run)

    def follow(self, run: Run) -> None:
        """Never runs in place."""

    def unload(self, spec: ModelSpec) -> None:
        """Remove a model. Raises AssertionError when a run of it is in progress."""
        assert not any(run.spec is spec for run in self._running), f"model {spec.name!r} is running"
        del self._models[id(spec)]

    def cancel(self, run: Run) -> None:
        """Cancel a run: the next poll reports it, unless it has completed or ignores being cancelled."""
        state = self._running.get(run)
        if state is None:
            return
        state.cancelled = True
        if run in self._ended:
            self._ended[run] = Ended(run, error=self._ended[run].error, restoring=self._ended[run].restoring)
        elif not state.script.ignores_cancel:
            self.fail(run, RuntimeError("the run was cancelled"))

    def collect(self) -> list[Ended]:
        """The runs that have completed since the last call."""
        return self._report(lambda ended: ended.error is None)

    def poll(self) -> list[Ended]:
        """The runs that failed or were cancelled."""
        for run, state in list(self._running.items()):
            state.polls += 1
            if state.polls == state.script.polls and run not in self._ended:
                self.finish(run)
        return self._report(lambda ended: ended.error is not None)

    def _undecided(self, run: Run) -> _Running:
        assert run in self._running, "the run is not running"
        assert run not in self._ended, "the run has ended already"
        return self._running[run]

    def _report(self, which: Callable[[Ended], bool]) -> list[Ended]:
        found = [ended for ended in self._ended.values() if which(ended)]
        for ended in found:
            del self._running[ended.run], self._ended[ended.run]
        return found

    def __repr__(self) -> str:
        ended = len(self._ended)
        running = f"{len(self._running) - ended} running, {ended} to report"
        return f"<FakeEngine {len(self._models)} models, {running}>"


def result_of(run: Run, function: Function) -> Ended:
    """The end of a run whose model is this function."""
    results = [_of_part(part, function) for part in run.parts]
    return Ended(run, [sent for sent, _ in results], [kept for _, kept in results])


def _of_part(part: Part, function: Function) -> tuple[list[Tensor], list[Tensor]]:
    plan = part.plan
    assert plan is not None
    inputs = {port.name: from_wire(data, port.datatype, shape) for port, shape, data in inputs_of(part)}
    arrays = function(inputs)
    kept = [plan.keep[position] for position in part.keep]
    tensors = {
        port.index: kept_input(part, port) if port.is_kept_input else _tensor(arrays[port.name])
        for port in (*plan.outputs, *kept)
    }
    return [tensors[port.index] for port in plan.outputs], [tensors[port.index] for port in kept]


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    datatype, shape, data = to_wire(array)
    return OutputTensor(datatype, shape, bytes(data))
