"""The fake engine behaves like the real one as far as the dispatcher can tell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from subprocess import run as run_process
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from headrace.server.core.calls import Call, Inline, Plan, Reference, Zeros, bind
from headrace.server.core.engine_api import Ended, Engine, Run, Tensor, Variables
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.engine.fake import Arrays, FakeEngine, Script
from headrace.wire.dtypes import Datatype
from headrace.wire.tensors import from_wire

ANY = (Dimension(0, -1),)


@dataclass
class Piece:
    """An `engine_api.Part`. The driver's needs the runtime."""

    plan: Plan
    inline: Sequence[bytes] = ()
    references: Sequence[Tensor] = ()
    keep: tuple[int, ...] = ()
    rows: int = 0
    variables: Variables | None = None
    wants_variables: bool = False


def double(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
    return {"y": 2 * inputs["x"], "size": np.full(len(inputs["x"]), len(inputs["x"]))}


class Bench:
    """A fake engine with one model of two slots, x: FP32[?] -> y: FP32[?], size: INT64[?].

    A batch has up to four rows.
    """

    def __init__(self, script: Script) -> None:
        self.wakes = 0
        self.engine = FakeEngine()
        inputs = (Port(0, ("x",), Datatype.FP32, ANY),)
        outputs = (
            Port(0, ("y",), Datatype.FP32, ANY),
            Port(1, ("size",), Datatype.INT64, ANY),
        )
        self.spec = ModelSpec("double", "1", inputs, outputs, has_variables=False, slots=2, batch=4)
        self.engine.add(self.spec, double, script)
        self.engine.on_ended(self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def piece(self, *x: float, outputs: tuple[str, ...] = (), keep: tuple[str, ...] = ("y",)) -> Piece:
        call = Call("double", "", (Inline("x", Datatype.FP32, (len(x),)),), outputs, not outputs, keep)
        return Piece(bind(call, self.spec), [np.array(x, np.float32).tobytes()], keep=(*range(len(keep)),), rows=len(x))

    def start(self, *x: float, slot: int = 0) -> Run:
        return self.start_of(self.piece(*x), slot=slot)

    def start_of(self, *pieces: Piece, slot: int = 0) -> Run:
        run = Run(self.spec, slot, pieces, len(pieces))
        self.engine.start(run)
        return run

    def reported(self) -> list[Ended]:
        assert self.engine.collect() == []
        return self.engine.poll()


def y(ended: Ended, part: int = 0) -> list[float]:
    tensor = ended.sent[part][0]
    values: list[float] = from_wire(tensor.read(), tensor.datatype, tensor.shape).tolist()
    return values


def test_it_is_an_engine() -> None:
    engine: Engine = FakeEngine()
    assert engine.collect() + engine.poll() == []


def test_it_needs_no_runtime() -> None:
    code = "import sys, headrace.server.engine.fake; sys.exit('openvino' in sys.modules)"
    assert run_process([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_completes_at_once() -> None:
    bench = Bench(Script())
    run = bench.start(1, 2)
    assert bench.wakes == 1
    (ended,) = bench.engine.collect()
    assert ended.run is run
    assert y(ended) == [2, 4]
    assert from_wire(ended.sent[0][1].read(), Datatype.INT64, (2,)).tolist() == [2, 2]
    assert [*ended.kept[0]] == [ended.sent[0][0]]
    assert bench.reported() == []
    assert bench.engine.started == [run]


def test_references_and_zeros() -> None:
    bench = Bench(Script())
    bench.start(1, 2)
    source = bench.engine.collect()[0].kept[0][0]
    reference = bind(Call("double", "", (Reference("x", "y", take=False),), ("y",), False, ()), bench.spec)
    bench.start_of(Piece(reference, references=[source]))
    assert y(bench.engine.collect()[0]) == [4, 8]
    zeros = bind(Call("double", "", (Zeros("x", Datatype.FP32, (3,)),), ("y",), False, ()), bench.spec)
    bench.start_of(Piece(zeros))
    assert y(bench.engine.collect()[0]) == [0, 0, 0]
    bench.start_of(Piece(zeros, rows=3), Piece(reference, references=[source], rows=1))
    (ended,) = bench.engine.collect()
    assert [y(ended, part) for part in (0, 1)] == [[0, 0, 0], [4, 8]]


def test_a_function_is_applied_to_each_part_of_a_batch() -> None:
    bench = Bench(Script())
    first, second = (
        bench.piece(1, 2, outputs=("size", "y"), keep=()),
        bench.piece(3, outputs=("y",), keep=("size", "y")),
    )
    second.keep = (1,)
    run = bench.start_of(first, second)
    assert bench.wakes == 1
    (ended,) = bench.engine.collect()
    assert ended.run is run
    size, doubled = ended.sent[0]
    assert from_wire(size.read(), Datatype.INT64, (2,)).tolist() == [2, 2]
    assert from_wire(doubled.read(), Datatype.FP32, (2,)).tolist() == [2, 4]
    assert y(ended, 1) == [6]
    assert [len(sent) for sent in ended.sent] == [2, 1]
    assert [[*kept] for kept in ended.kept] == [[], [ended.sent[1][0]]]
    assert bench.engine.started == [run]


def test_a_part_that_the_function_raises_for_fails_the_whole_batch() -> None:
    bench = Bench(Script())

    def only_positive(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return double(inputs)

    bench.engine.add(bench.spec, only_positive)
    run = bench.start_of(bench.piece(1), bench.piece(-1))
    (ended,) = bench.reported()
    assert (ended.run, ended.sent, ended.kept) == (run, (), ())
    assert isinstance(ended.error, ValueError)
    bench.start_of(bench.piece(1), bench.piece(2))
    assert [y(ended, part) for ended in bench.engine.collect() for part in (0, 1)] == [[2], [4]]


def test_batches_that_break_the_contract() -> None:
    bench, other = Bench(Script()), Bench(Script())
    with pytest.raises(AssertionError, match="the run has no parts"):
        bench.start_of()
    with pytest.raises(AssertionError, match="too many rows"):
        bench.start_of(bench.piece(1, 2, 3), bench.piece(4, 5))
    with pytest.raises(AssertionError, match="belongs to another model"):
        bench.start_of(bench.piece(1), other.piece(2))
    assert not bench.engine.started
    bench.start_of(bench.piece(1, 2, 3, 4, 5))
    assert y(bench.engine.collect()[0]) == [2, 4, 6, 8, 10]


def test_held_runs_end_in_the_order_of_the_test() -> None:
    bench = Bench(Script(held=True))
    first, second = bench.start(1), bench.start(2, slot=1)
    assert bench.engine.running == [first, second]
    assert bench.reported() == []
    bench.engine.finish(second)
    bench.engine.finish(first)
    assert bench.wakes == 2
    assert [ended.run for ended in bench.engine.collect()] == [second, first]
    assert bench.engine.running == []


def test_a_failure_does_not_wake_and_is_found_by_polling() -> None:
    bench = Bench(Script(held=True))
    error = RuntimeError("no")
    run = bench.start(1)
    bench.engine.fail(run, error)
    assert bench.wakes == 0
    assert bench.reported() == [Ended(run, error=error)]


def test_an_exception_of_the_function_is_a_failure() -> None:
    bench = Bench(Script())
    bench.engine.add(bench.spec, lambda _: {})
    run = bench.start(1)
    (ended,) = bench.reported()
    assert ended.run is run
    assert isinstance(ended.error, KeyError)


def test_a_run_completes_after_some_polls() -> None:
    bench = Bench(Script(polls=3))
    bench.start(1)
    for _ in range(3):
        assert bench.wakes == 0
        assert bench.reported() == []
    assert bench.wakes == 1
    assert y(bench.engine.collect()[0]) == [2]


def test_a_cancel_ends_a_run_at_the_next_poll() -> None:
    bench = Bench(Script(held=True))
    run = bench.start(1)
    bench.engine.cancel(run)
    (ended,) = bench.reported()
    assert (ended.run, ended.sent, ended.kept) == (run, (), ())
    bench.engine.cancel(run)
    assert bench.reported() == []


def test_a_cancel_that_is_ignored() -> None:
    bench = Bench(Script(held=True, ignores_cancel=True))
    run = bench.start(1)
    bench.engine.cancel(run)
    assert bench.reported() == []
    bench.engine.finish(run)
    assert bench.engine.collect() == [Ended(run)]


def test_a_cancel_after_completion_takes_the_result() -> None:
    bench = Bench(Script())
    run = bench.start(1)
    bench.engine.cancel(run)
    assert bench.engine.collect() == [Ended(run)]


def test_a_slot_has_one_run_until_its_end_is_reported() -> None:
    bench = Bench(Script())
    bench.start(1)
    with pytest.raises(AssertionError, match="slot 0 of model 'double' has a run"):
        bench.start(2)
    with pytest.raises(AssertionError, match="no slot 2"):
        bench.start(2, slot=2)
    bench.engine.collect()
    bench.start(2)
    assert y(bench.engine.collect()[0]) == [4]


def test_a_run_ends_once() -> None:
    bench = Bench(Script(held=True))
    run = bench.start(1)
    bench.engine.finish(run)
    with pytest.raises(AssertionError, match="has ended already"):
        bench.engine.fail(run, RuntimeError())
    assert repr(bench.engine) == "<FakeEngine 1 models, 0 running, 1 to report>"
    bench.engine.collect()
    with pytest.raises(AssertionError, match="is not running"):
        bench.engine.finish(run)


def test_a_model_is_unloaded_once_and_when_nothing_of_it_runs() -> None:
    bench = Bench(Script(held=True))
    run = bench.start(1)
    with pytest.raises(AssertionError, match="model 'double' is running"):
        bench.engine.unload(bench.spec)
    bench.engine.finish(run)
    bench.engine.collect()
    bench.engine.unload(bench.spec)
    assert repr(bench.engine) == "<FakeEngine 0 models, 0 running, 0 to report>"
    with pytest.raises(KeyError):
        bench.engine.unload(bench.spec)
