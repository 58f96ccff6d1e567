"""An engine driven as the dispatcher drives it, except that the test waits."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headrace.server.core.calls import Call, Inline, Plan, Reference, Zeros, bind
from headrace.server.core.engine_api import Ended, Run, Tensor, Variables
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.engine.slots import Slot
from headrace.wire.tensors import Buffer, from_wire, to_wire

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array | Tensor | Zeros]
POLL = 0.01
"""Seconds without a wake after which failures and cancels are looked for."""
PATIENCE = 2000
"""How often to look before a run that does not end is a failed test."""


@dataclass(slots=True)
class Piece:
    """An `engine_api.Part`."""

    plan: Plan
    inline: Sequence[Buffer]
    references: Sequence[Tensor]
    keep: tuple[int, ...]
    rows: int
    variables: Variables | None = None
    wants_variables: bool = False


@dataclass(slots=True)
class Result:
    """The result of a part of a run: nothing when the run was cancelled or has failed."""

    sent: Sequence[Tensor] = ()
    kept: Sequence[Tensor] = ()
    error: Exception | None = None


class Driver:
    def __init__(self) -> None:
        self.engine = OpenVinoEngine()
        self.woken = threading.Event()
        self.wakes = 0
        self.polls = 0
        self.in_place = 0
        self.restoring: set[tuple[int, int]] = set()
        """The identity of the spec and the number of each slot that must not be used now."""
        self.engine.on_ended(self._wake)

    def _wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def load(
        self,
        path: Path,
        *,
        slots: int = 1,
        run: Literal["auto", "direct", "async"] = "async",
        hint: Literal["latency", "throughput", "none"] = "throughput",
    ) -> ModelSpec:
        """Load a model that computes in f32, whatever the processor would prefer.

        Batches are not measured: the tests decide which parts share a run.
        """
        properties = {"INFERENCE_PRECISION_HINT": "f32"}
        return self.engine.load("m", "1", path, Compilation("CPU", run, hint, properties, slots, batch=1))

    def slot(self, spec: ModelSpec, index: int = 0) -> Slot:
        return self.engine._models[id(spec)].slots[index]

    def wait(self, count: int = 1) -> list[Ended]:
        """Collect and poll until `count` runs have ended."""
        ended: list[Ended] = []
        for _ in range(PATIENCE):
            if self.woken.wait(POLL):
                self.woken.clear()
                ended += self.look(self.engine.collect())
            else:
                self.polls += 1
                ended += self.look(self.engine.poll())
            if len(ended) >= count:
                return ended
        raise AssertionError(f"{len(ended)} of {count} runs have ended: {self.engine!r}")

    def look(self, ended: list[Ended]) -> list[Ended]:
        """Note which slots these runs have spoiled, and which can be used again."""
        for each in ended:
            if each.restoring:
                self.restoring.add((id(each.run.spec), each.run.slot))
        for spec, slot, _ in self.engine.restored():
            self.restoring.remove((id(spec), slot))
        return ended

    def usable(self, spec: ModelSpec, slot: int = 0) -> None:
        """Wait until a slot can be used."""
        for _ in range(PATIENCE):
            if (id(spec), slot) not in self.restoring:
                return
            if self.woken.wait(POLL):
                threading.Event().wait(POLL)  # somebody else's wake is left to `wait`
            self.look([])
        raise AssertionError(f"slot {slot} was not restored: {self.engine!r}")

    def run(self, run: Run) -> Result:
        """Start a run of one part and wait for its end, which must be the only one."""
        return only(self._ended(run))

    def batch(self, run: Run) -> list[Result]:
        """Start a run of several parts and wait for its end. Raises what it failed with."""
        found = results(self._ended(run))
        for result in found:
            if result.error is not None:
                raise result.error
        return found

    def _ended(self, run: Run) -> Ended:
        self.usable(run.spec, run.slot)
        ended = self.engine.start(run)
        self.in_place += ended is not None and ended.error is None
        if ended is None:
            (ended,) = self.wait()
        else:
            self.look([ended])
        assert ended.run is run
        return ended

    def warm(self, spec: ModelSpec, inputs: Inputs, slot: int = 0) -> None:
        """Run the same until a slot does it in place."""
        self.warm_run(make(spec, inputs, slot=slot))

    def warm_run(self, run: Run) -> None:
        """The same for a run; on a busy machine the first times look slow."""
        before = self.in_place
        for _ in range(PATIENCE):
            self._ended(run)
            if self.in_place > before:
                return
        raise AssertionError("nothing runs in place")

    def infer(
        self,
        spec: ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        slot: int = 0,
    ) -> Result:
        """`run` of `make`; raises what the run failed with."""
        result = self.run(make(spec, inputs, outputs, keep, slot))
        if result.error is not None:
            raise result.error
        return result


def plan(
    spec: ModelSpec,
    inputs: Inputs,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
) -> Plan:
    """The plan of a call with such inputs. Without `outputs` it requests all of them."""
    call = Call(
        model=spec.name,
        version="",
        inputs=tuple(_input(name, value) for name, value in inputs.items()),
        outputs=tuple(outputs or ()),
        all_outputs=outputs is None,
        keep=tuple(keep),
        keep_inputs=tuple(keep_inputs),
    )
    return bind(call, spec)


def _input(name: str, value: Array | Tensor | Zeros) -> Inline | Reference | Zeros:
    if isinstance(value, Zeros):
        return value
    if isinstance(value, np.ndarray):
        datatype, shape, _ = to_wire(value)
        return Inline(name, datatype, shape)
    return Reference(name, "its source's", take=False)


def piece(
    spec: ModelSpec,
    inputs: Inputs,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
) -> Piece:
    """A part of arrays (inline) and tensors (references) that keeps all outputs in `keep`, and then the inputs."""
    shapes = [value.shape for value in inputs.values()]
    return Piece(
        plan(spec, inputs, outputs, keep, keep_inputs),
        [bytes(to_wire(value)[2]) for value in inputs.values() if isinstance(value, np.ndarray)],
        [value for value in inputs.values() if not isinstance(value, np.ndarray | Zeros)],
        tuple(range(len(keep) + len(keep_inputs))),
        shapes[0][0] if shapes[0] else 0,
    )


def of(*pieces: Piece, slot: int = 0) -> Run:
    """A run of parts."""
    return Run(pieces[0].plan.spec, slot, pieces, len(pieces))


def make(
    spec: ModelSpec,
    inputs: Inputs,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    slot: int = 0,
) -> Run:
    """A run of one part."""
    return of(piece(spec, inputs, outputs, keep), slot=slot)


def results(ended: Ended) -> list[Result]:
    """The results of the parts of a run. All are empty if the run was cancelled or has failed."""
    count = len(ended.run.parts)
    if not ended.sent:
        assert not ended.kept
        return [Result(error=ended.error) for _ in range(count)]
    assert len(ended.sent) == len(ended.kept) == count
    assert ended.error is None
    return [Result(sent, kept) for sent, kept in zip(ended.sent, ended.kept, strict=True)]


def only(ended: Ended) -> Result:
    """The same for a run of one part."""
    (result,) = results(ended)
    return result


def array(tensor: Tensor) -> Array:
    """The elements of an output."""
    return from_wire(tensor.read(), tensor.datatype, tensor.shape)


def arrays(tensors: Iterable[Tensor]) -> list[Array]:
    return [array(tensor) for tensor in tensors]


def address(data: Buffer) -> int:
    """Where the bytes are."""
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def row(value: float) -> Array:
    """f32[1,16] of one value."""
    return np.full((1, 16), value, np.float32)
