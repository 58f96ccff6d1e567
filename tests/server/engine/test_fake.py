"""The engine for tests behaves as the real one where dispatch can tell."""

from __future__ import annotations

import sys
from subprocess import run as run_process
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from headrace.server.core.calls import Call, Inline, Reference, Zeros, bind
from headrace.server.core.ports import Ended, Engine, Run
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.engine.fake import Arrays, FakeEngine, Script
from headrace.wire.dtypes import Datatype
from headrace.wire.tensors import from_wire

ANY = (Dimension(0, -1),)


def double(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
    return {"y": 2 * inputs["x"], "size": np.array(len(inputs["x"]))}


class Bench:
    """A fake engine with one model of two slots, x: FP32[?] -> y: FP32[?], size: INT64[]."""

    def __init__(self, script: Script) -> None:
        self.wakes = 0
        self.engine = FakeEngine()
        inputs = (Port(0, ("x",), Datatype.FP32, ANY),)
        outputs = (
            Port(0, ("y",), Datatype.FP32, ANY),
            Port(1, ("size",), Datatype.INT64, ()),
        )
        self.spec = ModelSpec("double", "1", inputs, outputs, has_variables=False, slots=2)
        self.engine.add(self.spec, double, script)
        self.engine.on_ended(self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def start(self, *x: float, slot: int = 0) -> Run:
        call = Call("double", "", (Inline("x", Datatype.FP32, (len(x),)),), (), True, ("y",))
        data = np.array(x, np.float32).tobytes()
        run = Run(bind(call, self.spec), slot, [data], [], (0,))
        self.engine.start(run)
        return run

    def reported(self) -> list[Ended]:
        assert self.engine.collect() == []
        return self.engine.poll()


def y(ended: Ended) -> list[float]:
    tensor = ended.sent[0]
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
    assert from_wire(ended.sent[1].read(), Datatype.INT64, ()) == 2
    assert ended.kept == [ended.sent[0]]
    assert bench.reported() == []
    assert bench.engine.started == [run]


def test_references_and_zeros() -> None:
    bench = Bench(Script())
    bench.start(1, 2)
    source = bench.engine.collect()[0].kept[0]
    call = Call("double", "", (Reference("x", "y", take=False),), ("y",), False, ())
    bench.engine.start(Run(bind(call, bench.spec), 0, [], [source], ()))
    assert y(bench.engine.collect()[0]) == [4, 8]
    call = Call("double", "", (Zeros("x", Datatype.FP32, (3,)),), ("y",), False, ())
    bench.engine.start(Run(bind(call, bench.spec), 0, [], [], ()))
    assert y(bench.engine.collect()[0]) == [0, 0, 0]


def test_held_runs_end_in_the_order_that_the_test_says() -> None:
    bench = Bench(Script(held=True))
    first, second = bench.start(1), bench.start(2, slot=1)
    assert bench.engine.running == [first, second]
    assert bench.reported() == []
    bench.engine.finish(second)
    bench.engine.finish(first)
    assert bench.wakes == 2
    assert [ended.run for ended in bench.engine.collect()] == [second, first]
    assert bench.engine.running == []


def test_a_failure_wakes_nobody_and_is_polled() -> None:
    bench = Bench(Script(held=True))
    error = RuntimeError("no")
    run = bench.start(1)
    bench.engine.fail(run, error)
    assert bench.wakes == 0
    assert bench.reported() == [Ended(run, error=error)]


def test_what_the_function_raises_is_a_failure() -> None:
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
