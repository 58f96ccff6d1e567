"""The times that are reported for each run."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from headrace.server.core.engine_api import Ended, Run
from tests import models
from tests.server.engine.bench import Bench, Kind
from tests.server.engine.driver import Driver, f32, make, of, row


def timed(driver: Driver, run: Run) -> tuple[Ended, float]:
    """The end of a run, and the seconds until it was reported."""
    began = perf_counter()
    ended = driver.engine.start(run) or driver.wait()[0]
    return ended, perf_counter() - began


@pytest.mark.parametrize("parts", [1, 3])
def test_times_of_a_run(bench: Bench, run: Kind, parts: int) -> None:
    one = of(*bench.pieces(*[1] * parts))
    if bench.direct:
        bench.driver.warm_run(one)
    ended, whole = timed(bench.driver, one)
    assert min(ended.times) > 0
    assert sum(ended.times) < whole


def test_times_of_a_run_that_follows(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    run = make(spec, {"x": row(1), "y": row(2)})
    driver.warm_run(run)
    began = perf_counter()
    ended = driver.engine.follow(run)
    whole = perf_counter() - began
    assert ended is not None
    assert min(ended.times) > 0
    assert sum(ended.times) < whole


def test_computing_takes_most_of_the_time(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.slow(tmp_path))
    times: list[tuple[float, float, float]] = []
    for _ in range(2):
        ended, whole = timed(driver, make(spec, {"x": f32(1)}))
        assert min(ended.times) > 0
        assert sum(ended.times) < whole
        times.append(ended.times)
    taken, inferred, read = map(min, zip(*times, strict=True))  # the machine may have stood still in one of them
    assert inferred > 10 * max(taken, read)


def test_a_run_has_ended_when_the_runtime_calls(driver: Driver, tmp_path: Path) -> None:
    """Not when it is collected."""
    run = make(driver.load(models.slow(tmp_path)), {"x": f32(1)})
    began = perf_counter()
    assert driver.engine.start(run) is None
    driver.woken.wait()
    called = perf_counter() - began
    while perf_counter() - began < 3 * called:
        pass
    (ended,) = driver.engine.collect()
    assert sum(ended.times[:2]) < called
    assert ended.times[2] < called


def test_a_failure_has_no_times(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.failing(tmp_path))
    ended, _ = timed(driver, make(spec, {"x": f32(*range(15))}))
    assert isinstance(ended.error, RuntimeError)
    assert ended.times == (0, 0, 0)
