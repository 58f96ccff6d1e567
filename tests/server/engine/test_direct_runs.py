"""Direct runs: only runs that are known to be quick are done in place, with the same results."""

from __future__ import annotations

import itertools
import timeit
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from headrace.server.engine import inputs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.direct_runs import (
    MAX_KNOWN_SHAPES,
    MAX_PROBED_SECONDS,
    MAX_SLOW_PROBES,
    RUNS_PER_PROBE,
    THREAD_HOP_SECONDS,
    WATCHED_RUNS,
    RunTimes,
)
from headrace.server.engine.inputs import MAX_CACHED_BYTES
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.slots import Slot
from tests import models
from tests.server.engine.driver import Driver, array, arrays, f32, make, of, piece, row

A, B = ("a",), ("b",)


def test_the_first_run_of_a_shape_is_handed_over() -> None:
    times = RunTimes()
    assert not times.may_run_in_place(A)
    times.record_async(A, MAX_PROBED_SECONDS / 2)
    assert times.may_run_in_place(A)
    assert not times.may_run_in_place(B)


def test_a_run_that_took_long_asynchronously_is_not_tried_in_place() -> None:
    times = RunTimes()
    times.record_async(A, 2 * MAX_PROBED_SECONDS)
    assert not times.may_run_in_place(A)
    times.record_async(A, MAX_PROBED_SECONDS / 2)  # the first run of a shape prepares it, a later one shows its time
    assert times.may_run_in_place(A)


def test_a_run_slower_than_a_hop_is_handed_over_after_a_few_probes() -> None:
    times = RunTimes()
    times.record_async(A, MAX_PROBED_SECONDS / 2)
    for _ in range(MAX_SLOW_PROBES):
        assert times.may_run_in_place(A)
        times.record_direct(A, 1.5 * THREAD_HOP_SECONDS)
    for _ in range(RUNS_PER_PROBE - 1):
        assert not times.may_run_in_place(A)
        times.record_async(A, MAX_PROBED_SECONDS / 2)
    times.record_async(A, MAX_PROBED_SECONDS / 2)
    assert times.may_run_in_place(A)
    times.record_direct(A, 1.5 * THREAD_HOP_SECONDS)
    assert not times.may_run_in_place(A)


def test_one_quick_run_is_enough() -> None:
    """A busy machine makes a quick run look slow, but never a slow one quick, nor does it take the processor's time."""
    times = RunTimes()
    times.record_async(A, MAX_PROBED_SECONDS / 2)
    times.record_direct(A, 10 * THREAD_HOP_SECONDS)
    times.record_direct(A, THREAD_HOP_SECONDS / 2)
    for _ in range(10 * WATCHED_RUNS):
        times.record_direct(A, 10 * THREAD_HOP_SECONDS, THREAD_HOP_SECONDS / 2)
    assert times.is_fast(A)


@pytest.mark.parametrize("quick_between", [0, 1, WATCHED_RUNS - 1])
def test_a_shape_that_has_become_slow_is_handed_over_after_two_runs_and_comes_back(quick_between: int) -> None:
    times, slow = RunTimes(), 10 * THREAD_HOP_SECONDS
    times.record_async(A, THREAD_HOP_SECONDS / 2)
    times.record_async(B, THREAD_HOP_SECONDS / 2)
    times.record_direct(A, slow)
    for _ in range(quick_between):
        assert times.is_fast(A)
        times.record_direct(A, THREAD_HOP_SECONDS / 4, THREAD_HOP_SECONDS / 4)
    times.record_direct(A, slow, slow)
    assert not times.is_fast(A)
    assert times.is_fast(B)
    for _ in range(RUNS_PER_PROBE):
        assert not times.may_run_in_place(A)
        times.record_async(A, slow)
    assert times.may_run_in_place(A)
    times.record_direct(A, slow)
    assert not times.may_run_in_place(A)
    for _ in range(RUNS_PER_PROBE):
        times.record_async(A, THREAD_HOP_SECONDS)
    times.record_direct(A, THREAD_HOP_SECONDS / 2)
    assert times.is_fast(A)


def test_slow_runs_far_apart_change_nothing() -> None:
    times = RunTimes()
    times.record_async(A, THREAD_HOP_SECONDS / 2)
    for _ in range(5):
        times.record_direct(A, 10 * THREAD_HOP_SECONDS)
        for _ in range(WATCHED_RUNS):
            times.record_direct(A, THREAD_HOP_SECONDS / 4, THREAD_HOP_SECONDS / 4)
        assert not times.suspects
    assert times.is_fast(A)


@pytest.mark.parametrize("follows", [False, True], ids=["started", "following"])
def test_denormal_numbers_end_the_direct_runs_of_a_shape_at_once(tmp_path: Path, follows: bool) -> None:
    """On many processors they make each run take fifty times as long."""
    model = compile_model(ov.Core(), "m", "1", models.halving(tmp_path), Compilation(run="direct"))
    slot = Slot(model, lambda _: None)

    def in_place(value: float) -> bool:
        run = of(piece(model.spec, {"x": np.full((16, 4096), value, np.float32)}))
        if follows and (outcome := slot.follow(run)) is not None:
            return True
        outcome = slot.start(run, in_place=True)
        if outcome is None:
            slot._request.wait()
            slot.completed()
            slot.read()
            slot.end()
        return outcome is not None

    def seconds(value: float) -> float:
        """The least of a few runs, of the runtime alone."""
        data = {"x": np.full((16, 4096), value, np.float32)}
        return min(timeit.repeat(lambda: slot._request.infer(data), number=1, repeat=5))

    if seconds(1e-39) < 5 * seconds(1.0):
        pytest.skip("this processor computes with denormal numbers as fast as with others")
    assert slot._times is not None
    in_place(1.0)
    while not slot._times.is_fast(slot._shapes):
        in_place(1.0)
    slow = [in_place(1e-39) for _ in range(50)]
    assert sum(slow) <= 2, slow
    slot.close()


def test_the_number_of_known_shapes_is_bounded() -> None:
    times = RunTimes()
    for number in range(3 * MAX_KNOWN_SHAPES):
        times.record_async(number, THREAD_HOP_SECONDS)
    assert len(times._best) <= MAX_KNOWN_SHAPES


def test_a_quick_model_runs_in_place_but_for_the_first_time(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    driver.infer(spec, {"x": row(1), "y": row(2)})
    assert driver.in_place == 0
    driver.warm(spec, {"x": row(1), "y": row(2)})
    before = driver.in_place
    for number in range(50):
        ended = driver.infer(spec, {"x": row(number), "y": row(2)}, keep=["sum"])
        assert [a[0, 0] for a in arrays(ended.sent)] == [number + 2, 2 * number]
        assert array(ended.kept[0])[0, 15] == number + 2
    assert driver.in_place == before + 50


def test_a_kept_output_survives_direct_runs(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    kept = driver.infer(spec, {"x": row(1), "y": row(2)}, keep=["sum"]).kept[0]
    driver.warm(spec, {"x": row(1), "y": row(2)})
    for number in range(1000):
        driver.infer(spec, {"x": row(number), "y": row(number)}, ["product"])
    assert driver.in_place > 1000
    assert (array(kept) == row(3)).all()


def test_every_new_shape_and_every_huge_one_is_handed_over(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    for rows in range(1, 30):
        x = np.full((rows, 16), rows, np.float32)
        driver.infer(spec, {"x": x, "y": x})
    assert driver.in_place == 0
    huge = np.ones((300_000, 16), np.float32)
    for _ in range(5):
        assert (array(driver.infer(spec, {"x": huge, "y": huge}, ["sum"]).sent[0])[-1] == 2).all()
    assert driver.in_place == 0


def test_no_run_waits_in_place_for_a_run_in_progress(driver: Driver, tmp_path: Path) -> None:
    """The model has one thread: in place, a small run would block the event loop until a huge one ends."""
    spec = driver.load(models.add_multiply(tmp_path), run="auto", slots=2)
    small = {"x": row(1), "y": row(2)}
    driver.warm(spec, small, slot=1)
    before = driver.in_place
    huge = np.ones((300_000, 16), np.float32)
    assert driver.engine.start(make(spec, {"x": huge, "y": huge}, slot=0)) is None
    assert driver.engine.start(make(spec, small, slot=1)) is None
    assert len(driver.wait(2)) == 2
    driver.infer(spec, small, slot=1)
    assert driver.in_place == before + 1


def test_a_failure_in_place(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.failing(tmp_path), run="direct")
    good, bad = np.arange(16, dtype=np.float32), f32(*range(15))
    for _ in range(3):
        driver.warm(spec, {"x": good})
        before = driver.in_place
        assert (array(driver.infer(spec, {"x": good}).sent[0]) == good.reshape(2, 8)).all()
        assert driver.in_place == before + 1
        ended = driver.run(make(spec, {"x": bad}))
        assert isinstance(ended.error, RuntimeError)
        assert driver.in_place == before + 1


def test_variables_are_reset_before_direct_runs(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.counter(tmp_path), run="direct")
    driver.warm(spec, {"x": f32(7)})
    before = driver.in_place
    for value in (1.0, 1.0, 5.0, 1.0):
        assert array(driver.infer(spec, {"x": f32(value)}).sent[0]).tolist() == [value]
    assert driver.in_place == before + 4


def in_place_at_once(model: CompiledModel, rows: int) -> bool:
    """Whether a slot does its first batch, of parts with one row each, in place."""
    slot = Slot(model, lambda _: None)
    parts = [piece(model.spec, {"x": row(part), "y": row(2)}) for part in range(rows)]
    outcome = slot.start(of(*parts), in_place=True)
    if outcome is not None:
        sent = outcome[0]
        assert [[a[0, 0] for a in arrays(tensors)] for tensors in sent] == [[n + 2, 2 * n] for n in range(rows)]
    slot.close()
    return outcome is not None


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_batches_of_every_size_have_run_before_a_ticket_waits_for_one(tmp_path: Path, rows: int) -> None:
    model = compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), Compilation(run="direct", batch=1))
    batches = replace(model, spec=replace(model.spec, batch=4))
    # On a busy machine one may look slow.
    assert any(in_place_at_once(batches, rows) for _ in range(20))
    assert not in_place_at_once(batches, 5)
    assert not in_place_at_once(model, rows)


@pytest.mark.parametrize(("max_bytes", "cached"), [(MAX_CACHED_BYTES, 2 * 4), (2 * 64, 2 * 2), (0, 0)])
def test_the_memory_of_small_batches_stays_for_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int, cached: int
) -> None:
    monkeypatch.setattr(inputs, "MAX_CACHED_BYTES", max_bytes)
    model = compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), Compilation(run="direct", batch=1))
    spec = replace(model.spec, batch=4)
    slot = Slot(replace(model, spec=spec), lambda _: None)
    numbers = itertools.count(1)
    for rows in (1, 2, 3, 4, 2, 1, 4, 4, 3, 1, 7, 2):
        given = list(itertools.islice(numbers, rows))
        run = of(*[piece(spec, {name: row(number) for name in "xy"}) for number in given])
        assert slot.start(run, in_place=False) is None
        slot._request.wait()
        sent, _, _, _ = slot.read()
        slot.end()
        assert [[a[0, 0] for a in arrays(tensors)] for tensors in sent] == [[2 * n, n * n] for n in given]
    assert len(slot._inputs._cached) == cached
    slot.close()
