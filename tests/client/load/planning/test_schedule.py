"""When requests are due, alone and split among processes."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest

from headrace.client.load.planning.phases import Arrivals, ClosedLoop, OpenLoop, Phase
from headrace.client.load.planning.schedule import (
    CHUNK_ARRIVALS,
    WHOLE,
    Share,
    due_times,
    planned_count,
    planned_seconds,
    split_count,
    split_evenly,
)
from headrace.client.load.record.samples import Floats

SEED = 7


def uniform(
    first: float, last: float | None = None, *, duration: float | None = None, count: int | None = None
) -> Phase:
    return Phase(OpenLoop(first, last or first), 0.0, duration, count)


def poisson(
    first: float, last: float | None = None, *, duration: float | None = None, count: int | None = None
) -> Phase:
    return Phase(OpenLoop(first, last or first, "poisson"), 0.0, duration, count)


def plan(phase: Phase, share: Share = WHOLE, seed: int = SEED) -> Floats:
    return np.array(list(due_times(phase, seed, share)))


@pytest.mark.parametrize(
    ("phase", "times"),
    [
        (uniform(4, duration=1), [0, 0.25, 0.5, 0.75]),
        (uniform(4, count=3), [0, 0.25, 0.5]),
        (uniform(10, duration=0.31), [0, 0.1, 0.2, 0.3]),
        (uniform(100, duration=0.07), [index / 100 for index in range(7)]),  # 0.07 * 100 is a little more than 7
        (uniform(0.001, duration=1), [0]),
        # The integral of the rate is t*t/2 + t: it reaches k at sqrt(1 + 2k) - 1.
        (uniform(1, 3, duration=2), [math.sqrt(1 + 2 * k) - 1 for k in range(4)]),
        (uniform(1, 3, count=4), [math.sqrt(1 + 2 * k) - 1 for k in range(4)]),
        (uniform(3, 1, duration=2), [3 - math.sqrt(9 - 2 * k) for k in range(4)]),
    ],
)
def test_requests_are_due_where_the_integral_of_the_rate_is_whole(phase: Phase, times: list[float]) -> None:
    assert plan(phase) == pytest.approx(times, abs=1e-12)
    assert planned_count(phase, SEED) == len(times)


@pytest.mark.parametrize("arrivals", ["uniform", "poisson"])
def test_the_warmup_is_before_0_and_does_not_change_the_measured_part(arrivals: Arrivals) -> None:
    load = OpenLoop(100, 300, arrivals)
    cold, warm = plan(Phase(load, 0, 5)), plan(Phase(load, 2, 5))
    before = warm[warm < 0]
    assert warm[warm >= 0] == pytest.approx(cold, abs=0)
    assert before.min() >= -2
    assert len(before) == pytest.approx(200, abs=4 * math.sqrt(200) if arrivals == "poisson" else 0)
    assert planned_count(Phase(load, 2, 5), SEED) == len(cold)
    assert np.all(np.diff(warm) >= 0)


def test_a_uniform_warmup_is_in_step_with_the_measured_part() -> None:
    times = plan(Phase(OpenLoop(10, 10), 0.25, 0.3))
    assert times == pytest.approx([-0.2, -0.1, 0, 0.1, 0.2])
    # 0.29 * 100 is a little less than 29.
    assert plan(Phase(OpenLoop(100, 100), 0.29, 1))[0] == -0.29


def test_a_ramp_has_the_right_rate_at_each_moment() -> None:
    times = plan(uniform(50, 500, duration=60))
    for moment in (5, 20, 30, 55):
        seen = np.count_nonzero((times >= moment - 1) & (times < moment + 1)) / 2
        assert seen == pytest.approx(50 + 450 * moment / 60, abs=1)
    assert len(times) == 275 * 60


@pytest.mark.parametrize("number", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "phase",
    [
        Phase(OpenLoop(1000, 3000), 0.5, 6.0),
        Phase(OpenLoop(1000, 3000, "poisson"), 0.5, 6.0),
        Phase(OpenLoop(1000, 1000, "poisson"), 0.5, None, 2 * CHUNK_ARRIVALS + 5),
        Phase(OpenLoop(5, 5), 0.5, None, 3),  # fewer requests than processes
    ],
)
def test_all_processes_together_follow_the_one_plan(phase: Phase, number: int) -> None:
    shares = [Share(index, number) for index in range(number)]
    parts = [plan(phase, share) for share in shares]
    assert np.array_equal(np.sort(np.concatenate(parts)), plan(phase))
    measured = [int(np.count_nonzero(part >= 0)) for part in parts]
    assert [planned_count(phase, SEED, share) for share in shares] == measured
    assert max(measured) - min(measured) <= 1
    assert sum(measured) == planned_count(phase, SEED)


def test_the_planned_count_can_be_limited_to_a_moment() -> None:
    phase = uniform(1000, duration=100)
    assert planned_count(phase, SEED, until=0.0005) == 1
    assert planned_count(phase, SEED, until=0.001) == 2
    assert planned_count(phase, SEED, until=50) == 50_001
    assert planned_count(phase, SEED, until=-1) == 0
    assert planned_count(phase, SEED, Share(1, 2), until=50) == 25_000


def test_poisson_arrivals_have_the_given_rate_and_are_independent() -> None:
    times = plan(poisson(1000, duration=100))
    count = 100_000
    assert len(times) == pytest.approx(count, abs=4 * math.sqrt(count))
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.02)  # exponential
    assert np.mean(gaps > 0.001) == pytest.approx(math.exp(-1), abs=0.01)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=4 / math.sqrt(count))
    in_each = np.bincount(times.astype(int), minlength=100)
    assert in_each.var() / in_each.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / 100))


def test_a_poisson_ramp_has_the_right_rate_at_each_moment() -> None:
    phase = poisson(100, 900, duration=40)
    quarters = np.bincount((plan(phase) / 10).astype(int), minlength=4)
    for seen, rate in zip(quarters, (200, 400, 600, 800), strict=True):
        assert seen == pytest.approx(10 * rate, abs=4 * math.sqrt(10 * rate))
    assert planned_count(phase, SEED) == quarters.sum()


@pytest.mark.parametrize("count", [1, 2, CHUNK_ARRIVALS - 1, CHUNK_ARRIVALS, CHUNK_ARRIVALS + 1, 20_000])
def test_a_poisson_count_is_exact_and_within_the_planned_time(count: int) -> None:
    phase = poisson(50, 150, count=count)
    times = plan(phase)
    assert len(times) == planned_count(phase, SEED) == count
    assert times[0] > 0
    assert times[-1] < planned_seconds(phase) == count / 100


def test_a_poisson_count_is_spread_over_the_planned_time() -> None:
    times = plan(poisson(100, count=20_000))
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.04)
    assert times.mean() == pytest.approx(100, abs=4 * 200 / math.sqrt(12 * 20_000))


def test_the_seed_determines_poisson_arrivals() -> None:
    phase = Phase(OpenLoop(100, 100, "poisson"), 1, 10)
    assert np.array_equal(plan(phase, seed=1), plan(phase, seed=1))
    assert not set(plan(phase, seed=1)) & set(plan(phase, seed=2))


def test_due_times_are_computed_only_as_needed() -> None:
    endless = uniform(1e6, duration=1e9)
    assert list(islice(due_times(endless, SEED), 3)) == [0, 1e-6, 2e-6]
    assert planned_count(endless, SEED, until=1) == 1_000_001


def test_the_planned_seconds_follow_from_duration_or_count() -> None:
    assert planned_seconds(uniform(10, duration=3)) == 3
    assert planned_seconds(uniform(10, 30, count=100)) == 5
    assert planned_seconds(Phase(ClosedLoop(1), 0, 3)) == 3
    assert planned_seconds(Phase(ClosedLoop(1), 0, None, 100)) == math.inf
    with pytest.raises(ValueError, match="duration or a count"):
        planned_seconds(Phase(ClosedLoop(1), 0, None))


def test_a_closed_loop_has_no_plan() -> None:
    with pytest.raises(TypeError, match="only an open loop has a plan"):
        planned_count(Phase(ClosedLoop(1), 0, 3), SEED)


@pytest.mark.parametrize(
    ("concurrency", "count", "loops", "counts"),
    [
        (16, 100, [4, 4, 4, 4], [25, 25, 25, 25]),
        (6, 10, [2, 2, 1, 1], [3, 3, 2, 2]),
        (2, 10, [1, 1, 0, 0], [5, 5, 0, 0]),  # processes without concurrency send nothing
        (1, 3, [1, 0, 0, 0], [3, 0, 0, 0]),
        (8, 2, [2, 2, 2, 2], [1, 1, 0, 0]),
    ],
)
def test_a_closed_loop_is_split_among_processes(
    concurrency: int, count: int, loops: list[int], counts: list[int]
) -> None:
    shares = [Share(index, 4) for index in range(4)]
    assert [split_evenly(concurrency, share) for share in shares] == loops
    assert [split_count(count, concurrency, share) for share in shares] == counts
