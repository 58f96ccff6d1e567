"""Batches: only models whose rows give the same bits together as alone, and only sizes that pay off."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import onnx
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.specs import MAX_BATCH, Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.probing import batching
from headrace.server.engine.probing.batching import Batching, probe_batching
from headrace.server.engine.probing.row_probe import RowProbe
from headrace.server.engine.probing.sample_inputs import Rows, SampleInputs
from tests import models
from tests.server.engine.probing.rows import (
    BATCH,
    COUNT,
    build,
    compiled,
    constant,
    count_rows,
    infer,
    rows_of,
)
from tests.stopwatch import Stopwatch

# What is batched


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("run", ["direct", "async"])
def test_a_model_of_independent_rows(core: ov.Core, tmp_path: Path, run: Literal["direct", "async"]) -> None:
    model = compiled(core, models.add_multiply(tmp_path), run)
    assert rows_of(model, None, in_place=run == "direct") == Batching(MAX_BATCH, f"up to {MAX_BATCH} rows")


@pytest.mark.parametrize(("requested", "rows"), [(2, 2), (5, 5), (MAX_BATCH, MAX_BATCH), (1000, MAX_BATCH)])
def test_the_requested_number_of_rows(core: ov.Core, tmp_path: Path, requested: int, rows: int) -> None:
    assert rows_of(compiled(core, models.add_multiply(tmp_path)), requested) == Batching(rows, f"up to {rows} rows")


def test_one_row_is_not_a_batch(core: ov.Core, tmp_path: Path) -> None:
    assert rows_of(compiled(core, models.add_multiply(tmp_path)), 1) == Batching(1, "only one row is configured")


def test_at_most_the_rows_that_the_model_accepts(core: ov.Core, tmp_path: Path) -> None:
    path = build(tmp_path, lambda x: op.add(x, constant(1)), [ov.Dimension(1, 6), 16])
    assert rows_of(compiled(core, path)).rows == 6
    path = build(tmp_path, lambda x: op.slice(x, BATCH, np.array([4]), np.array([1])))  # y: f32[..4,16]
    assert rows_of(compiled(core, path)).rows == 4
    path = build(tmp_path, lambda x: op.add(x, constant(1)), [ov.Dimension(0, 1), 16])
    assert rows_of(compiled(core, path)) == Batching(1, "the model accepts only one row")


def test_at_most_the_rows_that_fit_in_memory(core: ov.Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compiled(core, models.add_multiply(tmp_path))
    row = 4 * 16 * 4  # two inputs and two outputs
    monkeypatch.setattr(batching, "MAX_RUN_BYTES", 4 * row - 1)
    assert rows_of(model).rows == 3
    monkeypatch.setattr(batching, "MAX_RUN_BYTES", 2 * row - 1)
    assert rows_of(model) == Batching(1, "a row takes 0.0 MiB of inputs and outputs")


@pytest.mark.parametrize(
    "type_name",
    ["boolean", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64"],
)
def test_every_datatype_but_strings(core: ov.Core, tmp_path: Path, type_name: str) -> None:
    def same(x: ov.Node) -> ov.Node:
        return op.unsqueeze(x, np.array([1]))

    assert rows_of(compiled(core, build(tmp_path, same, [-1, 3], type_name))).rows == 8


def test_indices_are_in_range(core: ov.Core, tmp_path: Path) -> None:
    """An embedding with a table of two rows."""
    table = constant(np.arange(16).reshape(2, 8))
    path = build(tmp_path, lambda x: op.gather(table, x, constant(0, np.int64)), [-1, 4], "i64")
    assert rows_of(compiled(core, path), MAX_BATCH).rows == MAX_BATCH


@pytest.mark.parametrize("run", ["direct", "async"])
def test_rows_that_are_found_independent_are(core: ov.Core, tmp_path: Path, run: Literal["direct", "async"]) -> None:
    """With data other than the samples, for every number of rows up to the limit, at every position."""
    random = np.random.default_rng(7)
    weights = [constant(random.standard_normal(shape)) for shape in ((16, 100), (100, 50), (50, 3))]

    def network(x: ov.Node) -> ov.Node:
        for weight in weights:
            x = op.tanh(op.matmul(x, weight, False, False))
        return op.softmax(x, 1)

    model = compiled(core, build(tmp_path, network), run)
    rows = rows_of(model, MAX_BATCH).rows
    request = model.runtime.create_infer_request()
    for _ in range(3):
        x = random.standard_normal((rows, 16), np.float32) * np.float32(random.lognormal(0, 3))
        alone = np.concatenate([infer(request, x[row : row + 1]) for row in range(rows)])
        for count in range(1, rows + 1):
            chosen = random.permutation(rows)[:count]
            assert infer(request, x[chosen]).tobytes() == alone[chosen].tobytes()


# What is not batched: its ports


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (models.static_add_multiply, "input 'x' has no dynamic first axis"),
        (models.bounded_add_multiply, "input 'x' requires at least 2 rows"),
        (models.strings, "input 'x' holds strings"),
        (models.scalar, "input 'x' has no dynamic first axis"),
        (models.failing, "output 'y' has no dynamic first axis"),
        (models.repeated, "input 'times' has no dynamic first axis"),
    ],
)
def test_ports_that_rule_batches_out(core: ov.Core, tmp_path: Path, model: Callable[[Path], Path], why: str) -> None:
    for requested in (None, 8):
        assert rows_of(compiled(core, model(tmp_path)), requested) == Batching(1, why)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ([-1, -1], "input 'x' has a dynamic axis besides the first"),
        ([-1, 3, ov.Dimension(1, 2)], "input 'x' has a dynamic axis besides the first"),
        ([1, -1], "input 'x' has no dynamic first axis"),
        ([-1, 0], "input 'x' has no elements"),
    ],
)
def test_shapes_that_rule_batches_out(core: ov.Core, tmp_path: Path, shape: models.Shape, why: str) -> None:
    model = compiled(core, build(tmp_path, lambda x: op.add(x, constant(1)), shape))
    assert rows_of(model) == Batching(1, why)


def test_any_rank_rules_batches_out(core: ov.Core, tmp_path: Path) -> None:
    model = compiled(core, models.add_multiply(tmp_path))
    (x, y), outputs = model.spec.inputs, model.spec.outputs
    ranks = [x, Port(y.index, y.names, y.datatype, None)]
    batch = probe_batching(model.runtime, ranks, outputs, requested=8, in_place=True, max_seconds=1.0)
    assert batch == Batching(1, "input 'y' has no dynamic first axis")
    batch = probe_batching(model.runtime, [], outputs, requested=8, in_place=True, max_seconds=1.0)
    assert batch == Batching(1, "it has no inputs")


def test_a_real_model_with_a_static_batch(core: ov.Core) -> None:
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    batch = rows_of(compiled(core, path), None, in_place=False)
    assert batch == Batching(1, "input 'gpu_0/data_0' has no dynamic first axis")


# Fewer rows than asked for


@pytest.mark.parametrize("limit", [1, 5])
def test_results_that_change_with_the_number_of_rows(core: ov.Core, tmp_path: Path, limit: int) -> None:
    """As with a kernel that is chosen by it."""

    def switch(x: ov.Node) -> ov.Node:
        return op.select(op.greater(count_rows(x), constant(limit, np.int64)), op.multiply(x, constant(1.0000001)), x)

    why = COUNT if limit == 1 else f"up to {limit} rows: {COUNT}"
    assert rows_of(compiled(core, build(tmp_path, switch))) == Batching(limit, why)


def _at_most_four(x: ov.Node) -> ov.Node:
    """A model whose run of more than four rows fails, because it has nothing to add to the fifth."""
    return op.add(x, op.slice(constant(np.ones((4, 16))), BATCH, op.unsqueeze(count_rows(x), BATCH), np.array([1])))


@pytest.mark.parametrize("requested", [None, 8])
@pytest.mark.usefixtures("patient")
def test_runs_that_fail_with_more_rows(core: ov.Core, tmp_path: Path, requested: int | None) -> None:
    batch = rows_of(compiled(core, build(tmp_path, _at_most_four)), requested)
    assert batch == Batching(4, f"up to 4 rows: a run of {8 if requested is None else 5} rows fails")


@pytest.mark.parametrize("requested", [None, 8])
def test_runs_that_fail_with_one_row(core: ov.Core, tmp_path: Path, requested: int | None) -> None:
    def pairs(x: ov.Node) -> ov.Node:
        two = op.reshape(x, np.array([-1, 2, 16]), special_zero=False)
        return op.reshape(op.add(two, constant([[[1], [2]]])), np.array([-1, 16]), special_zero=False)

    assert rows_of(compiled(core, build(tmp_path, pairs)), requested) == Batching(1, "a run of one row fails")


def test_checking_is_bounded(core: ov.Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compiled(core, models.add_multiply(tmp_path))
    monkeypatch.setattr(batching, "REQUESTED_CHECKING_SECONDS", 0.0)
    assert rows_of(model) == Batching(1, "checking one row takes too long")


def test_a_slow_run_is_given_up(
    core: ov.Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopwatch: Stopwatch
) -> None:
    """And the model still works afterwards."""
    unit = constant(np.eye(1024))

    def slow(x: ov.Node) -> ov.Node:
        """x itself, after products of 1024x1024 matrices, between which the runtime notices a cancel."""
        matrix = op.multiply(unit, op.reduce_max(x, np.array([0, 1]), keep_dims=True))
        for _ in range(24):
            matrix = op.matmul(matrix, unit, False, False)
        return op.add(x, op.multiply(op.reduce_max(matrix, np.array([0, 1]), keep_dims=True), constant(0)))

    model = compiled(core, build(tmp_path, slow))
    monkeypatch.setattr(batching, "FIRST_RUN_SECONDS", 0.02)
    assert rows_of(model, None) == Batching(1, "measuring one row takes too long")
    monkeypatch.setattr(batching, "REQUESTED_CHECKING_SECONDS", 0.02)
    stopwatch.start()
    assert rows_of(model) == Batching(1, "checking one row takes too long")
    given_up = stopwatch.ran()
    x = np.ones((1, 16), np.float32)
    stopwatch.start()
    assert (infer(model.runtime.create_infer_request(), x) == x).all()
    assert given_up < stopwatch.ran() / 2


def test_nothing_is_left_behind(core: ov.Core, tmp_path: Path) -> None:
    def living() -> int:
        return sum(isinstance(each, RowProbe | SampleInputs) for each in gc.get_objects())

    model = compiled(core, models.add_multiply(tmp_path))
    gc.disable()
    try:
        before = living()
        for requested in (None, 8):
            rows_of(model, requested)
        assert living() == before
    finally:
        gc.enable()


# Whether it pays


@pytest.mark.parametrize("run", ["direct", "async"])
def test_rows_that_gain_nothing_together_are_joined_only_on_request(
    core: ov.Core, tmp_path: Path, run: Literal["direct", "async"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is a product of matrices of its own: rows share only a call of 10 us, beside milliseconds."""

    for budget in ("FIRST_RUN_SECONDS", "MEASURING_SECONDS"):  # which a busy machine may exceed
        monkeypatch.setattr(batching, budget, 20.0)

    def square(x: ov.Node) -> ov.Node:
        for _ in range(2):
            x = op.matmul(x, x, False, False)
        return x

    path = build(tmp_path, square, [-1, 256, 256])
    threads = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    model = compile_model(core, "m", "1", path, Compilation(run=run, properties=threads, batch=1))
    batch = rows_of(model, None, in_place=run == "direct")
    assert batch.rows == 1
    assert batch.why.startswith("2 rows take ")
    assert batch.why.endswith(" times as long as one")
    assert rows_of(model, 8) == Batching(8, "up to 8 rows")


def test_a_row_that_takes_longer_than_a_batch_may(core: ov.Core, tmp_path: Path) -> None:
    batch = rows_of(compiled(core, models.add_multiply(tmp_path)), None, max_seconds=1e-7)
    assert batch.rows == 1
    assert batch.why.startswith("one row takes 0.0")
    assert batch.why.endswith(" ms")


class Clockwork(RowProbe):
    """A model whose times are given by a function, and whose rows give equal results up to some number of rows."""

    def __init__(self, run_seconds: Callable[[int], float], equal: int = MAX_BATCH) -> None:
        self._run_seconds = run_seconds
        self._equal = equal
        self.noise: list[float] = []
        """Factors of the next measurements."""

    def time_runs(self, rows: int, in_place: bool, deadline: float) -> list[float]:
        factor = self.noise.pop(0) if self.noise else 1.0
        return [factor * self._run_seconds(rows)] * 3

    def find_difference(self, rows: int, deadline: float) -> str | None:
        return "no" if rows > self._equal else None


def choose(probe: Clockwork, bound: int = MAX_BATCH, *, in_place: bool = True, max_seconds: float = 1e3) -> Batching:
    return batching._Sizes(probe, in_place, max_seconds).choose(bound)


def test_more_rows_for_as_long_as_each_gets_quicker() -> None:
    assert choose(Clockwork(lambda rows: 1 + 0.01 * rows)) == Batching(64, "up to 64 rows")
    why = "up to 16 rows: 32 rows take 2.0 times as long as 16"
    assert choose(Clockwork(lambda rows: max(1.0, rows / 16))) == Batching(16, why)


def test_the_last_size_need_not_be_a_power_of_two() -> None:
    assert choose(Clockwork(lambda rows: 1 + 0.01 * rows), 48) == Batching(48, "up to 48 rows")


def test_a_batch_does_not_make_tickets_wait_longer_on_average() -> None:
    """Two rows, one after another, wait for 1.5 runs on average."""
    assert choose(Clockwork(lambda rows: (rows + 1) / 2), 8).rows == 8
    batch = choose(Clockwork(lambda rows: (rows + 1) / 2 + 0.1 * (rows - 1)), 8)
    assert batch == Batching(1, "2 rows take 1.6 times as long as one")


def test_a_batch_takes_at_most_the_time_allowed() -> None:
    probe = Clockwork(lambda rows: 1 + 0.1 * rows)
    assert choose(probe, max_seconds=3.0) == Batching(16, "up to 16 rows: 32 rows take 4.2e+03 ms")
    assert choose(probe, max_seconds=1.0) == Batching(1, "one row takes 1.1e+03 ms")


def test_fewer_rows_than_measured_must_pay_off_themselves() -> None:
    assert choose(Clockwork(lambda rows: 1 + 0.01 * rows, equal=5)) == Batching(5, "up to 5 rows: no")
    steps = Clockwork(lambda rows: 1.0 if rows in (1, 2, 4, 8) else 3.1, equal=5)
    assert choose(steps) == Batching(1, "5 rows take 3.1 times as long as one")


def test_a_busy_machine_makes_a_size_look_slow() -> None:
    probe = Clockwork(lambda rows: 1 + 0.01 * rows)
    probe.noise = [1.0, 9.0]  # the second one
    assert choose(probe).rows == MAX_BATCH
    probe.noise = [1.0, 0.1, 9.0]  # the third, after the second looked quick
    assert choose(probe, in_place=False).rows == MAX_BATCH


@pytest.mark.parametrize("in_place", [True, False])
def test_a_busy_machine_does_not_make_slow_batches_look_quick(in_place: bool) -> None:
    """It was busy only while one row was measured."""
    probe = Clockwork(lambda rows: float(rows))
    probe.noise = [99.0]
    assert choose(probe, in_place=in_place).rows == 1


def test_one_lucky_asynchronous_run_in_three_does_not_count() -> None:
    class Lucky(Clockwork):
        def time_runs(self, rows: int, in_place: bool, deadline: float) -> list[float]:
            return [0.1 if rows == 1 else 1.0, 1.0, 1.0]

    assert choose(Lucky(float), in_place=False).rows == MAX_BATCH


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("requested", "limit"),
    [
        (None, "FIRST_RUN_SECONDS"),
        (None, "MEASURING_SECONDS"),
        (None, "CHECKING_SECONDS"),
        (8, "REQUESTED_CHECKING_SECONDS"),
    ],
)
def test_a_machine_that_stands_still_does_not_decide(
    core: ov.Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requested: int | None, limit: str
) -> None:
    """The process does not get the processor until a limit has passed; then it does."""
    run, stood_still = RowProbe._run, 0

    def stopped(probe: RowProbe, values: Sequence[Rows], deadline: float) -> list[Rows]:
        nonlocal stood_still
        left = deadline - perf_counter()
        if left < 1:
            stood_still += 1
            time.sleep(max(0, left))
            monkeypatch.setattr(batching, limit, 40.0)
        return run(probe, values, deadline)

    monkeypatch.setattr(RowProbe, "_run", stopped)
    monkeypatch.setattr(batching, limit, 0.4)
    rows = requested or MAX_BATCH
    assert rows_of(compiled(core, models.add_multiply(tmp_path)), requested) == Batching(rows, f"up to {rows} rows")
    assert stood_still >= 1
