import math
from itertools import islice

import numpy as np
import pytest

from headrace.client.load.plan import (
    CHUNK,
    WHOLE,
    Share,
    concurrency_of,
    count_of,
    due_times,
    parse_rate,
    parse_sweep,
    planned,
    seconds_of,
)
from headrace.client.load.run import Arrivals, ClosedLoop, OpenLoop, Phase
from headrace.client.load.samples import Floats
from headrace.client.terminal.usage_error import UsageError

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
    ("text", "rates"),
    [
        ("200", (200.0, 200.0)),
        ("200/s", (200.0, 200.0)),
        (" 200 / s ", (200.0, 200.0)),
        ("0.5/s", (0.5, 0.5)),
        ("1e3", (1000.0, 1000.0)),
        ("12/m", (0.2, 0.2)),
        ("1/h", (1 / 3600, 1 / 3600)),
        ("50..500/s", (50.0, 500.0)),
        ("500..50", (500.0, 50.0)),
        ("6 .. 60 /m", (0.1, 1.0)),
        ("1.5..2.5", (1.5, 2.5)),
        ("1000000/s", (1e6, 1e6)),
    ],
)
def test_rates(text: str, rates: tuple[float, float]) -> None:
    assert parse_rate(text) == rates


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/s",
        "fast",
        "200/",
        "200/x",
        "200/s/s",
        "200 s",
        "..",
        "50..",
        "..500",
        "50...500",
        "1..2..3",
        "٣",
        "nan",
        "inf",
        "-inf",
        "1_000",
        "0x10",
        "50/s..500/s",
        "1" * 1000 + "x",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no rate; write 200/s, 12/m, or 50\.\.500/s for one that grows$") as error:
        parse_rate(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", ["0", "0/s", "-1/s", "0..100", "100..0", "1000001", "1e999", "0.9/h", "1e-320"])
def test_rates_out_of_bounds(text: str) -> None:
    with pytest.raises(UsageError, match=r"is out of bounds: it can be from 1/h to 1000000/s$"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "points"), [("1", [1]), ("1,2,4,8", [1, 2, 4, 8]), (" 16, 1 ", [16, 1])])
def test_sweeps(text: str, points: list[int]) -> None:
    assert parse_sweep(text) == points


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is no sweep"),
        ("1,,2", "is no sweep"),
        ("1,2,", "is no sweep"),
        ("1;2", "is no sweep"),
        ("-1", "is no sweep"),
        ("1.5", "is no sweep"),
        ("٣", "is no sweep"),
        ("9" * 5000, "is no sweep"),
        ("0,1", "from 1 to 65536"),
        ("65537", "from 1 to 65536"),
        (",".join(["1"] * 65), "at most 64 points, and these are 65"),
    ],
)
def test_what_is_no_sweep(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        parse_sweep(text)


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
def test_when_requests_are_due(phase: Phase, times: list[float]) -> None:
    assert plan(phase) == pytest.approx(times, abs=1e-12)
    assert planned(phase, SEED) == len(times)


@pytest.mark.parametrize("arrivals", ["uniform", "poisson"])
def test_the_warm_up_is_before_0_and_leaves_the_measured_part_as_it_is(arrivals: Arrivals) -> None:
    load = OpenLoop(100, 300, arrivals)
    cold, warm = plan(Phase(load, 0, 5)), plan(Phase(load, 2, 5))
    before = warm[warm < 0]
    assert warm[warm >= 0] == pytest.approx(cold, abs=0)
    assert before.min() >= -2
    assert len(before) == pytest.approx(200, abs=4 * math.sqrt(200) if arrivals == "poisson" else 0)
    assert planned(Phase(load, 2, 5), SEED) == len(cold)
    assert np.all(np.diff(warm) >= 0)


def test_a_uniform_warm_up_is_in_step_with_what_follows() -> None:
    times = plan(Phase(OpenLoop(10, 10), 0.25, 0.3))
    assert times == pytest.approx([-0.2, -0.1, 0, 0.1, 0.2])
    # 0.29 * 100 is a little less than 29.
    assert plan(Phase(OpenLoop(100, 100), 0.29, 1))[0] == -0.29


def test_the_rate_of_a_ramp_at_each_moment() -> None:
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
        Phase(OpenLoop(1000, 1000, "poisson"), 0.5, None, 2 * CHUNK + 5),
        Phase(OpenLoop(5, 5), 0.5, None, 3),  # fewer than processes
    ],
)
def test_all_processes_together_keep_the_one_plan(phase: Phase, number: int) -> None:
    shares = [Share(index, number) for index in range(number)]
    parts = [plan(phase, share) for share in shares]
    assert np.array_equal(np.sort(np.concatenate(parts)), plan(phase))
    measured = [int(np.count_nonzero(part >= 0)) for part in parts]
    assert [planned(phase, SEED, share) for share in shares] == measured
    assert max(measured) - min(measured) <= 1
    assert sum(measured) == planned(phase, SEED)


def test_how_much_was_due_until_a_moment() -> None:
    phase = uniform(1000, duration=100)
    assert planned(phase, SEED, until=0.0005) == 1
    assert planned(phase, SEED, until=0.001) == 2
    assert planned(phase, SEED, until=50) == 50_001
    assert planned(phase, SEED, until=-1) == 0
    assert planned(phase, SEED, Share(1, 2), until=50) == 25_000


def test_poisson_arrivals_are_as_many_as_the_rate_says_and_independent() -> None:
    times = plan(poisson(1000, duration=100))
    count = 100_000
    assert len(times) == pytest.approx(count, abs=4 * math.sqrt(count))
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.02)  # exponential
    assert np.mean(gaps > 0.001) == pytest.approx(math.exp(-1), abs=0.01)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=4 / math.sqrt(count))
    in_each = np.bincount(times.astype(int), minlength=100)
    assert in_each.var() / in_each.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / 100))


def test_a_poisson_ramp_has_its_rate_at_each_moment() -> None:
    phase = poisson(100, 900, duration=40)
    quarters = np.bincount((plan(phase) / 10).astype(int), minlength=4)
    for seen, rate in zip(quarters, (200, 400, 600, 800), strict=True):
        assert seen == pytest.approx(10 * rate, abs=4 * math.sqrt(10 * rate))
    assert planned(phase, SEED) == quarters.sum()


@pytest.mark.parametrize("count", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 20_000])
def test_a_poisson_count_is_exact_and_within_its_time(count: int) -> None:
    phase = poisson(50, 150, count=count)
    times = plan(phase)
    assert len(times) == planned(phase, SEED) == count
    assert times[0] > 0
    assert times[-1] < seconds_of(phase) == count / 100


def test_a_poisson_count_is_spread_over_its_time() -> None:
    times = plan(poisson(100, count=20_000))
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.04)
    assert times.mean() == pytest.approx(100, abs=4 * 200 / math.sqrt(12 * 20_000))


def test_the_seed_decides_about_poisson_arrivals() -> None:
    phase = Phase(OpenLoop(100, 100, "poisson"), 1, 10)
    assert np.array_equal(plan(phase, seed=1), plan(phase, seed=1))
    assert not set(plan(phase, seed=1)) & set(plan(phase, seed=2))


def test_a_plan_is_made_as_it_is_needed() -> None:
    endless = uniform(1e6, duration=1e9)
    assert list(islice(due_times(endless, SEED), 3)) == [0, 1e-6, 2e-6]
    assert planned(endless, SEED, until=1) == 1_000_001


def test_how_long_a_phase_is() -> None:
    assert seconds_of(uniform(10, duration=3)) == 3
    assert seconds_of(uniform(10, 30, count=100)) == 5
    assert seconds_of(Phase(ClosedLoop(1), 0, 3)) == 3
    assert seconds_of(Phase(ClosedLoop(1), 0, None, 100)) == math.inf
    with pytest.raises(ValueError, match="duration or a count"):
        seconds_of(Phase(ClosedLoop(1), 0, None))


def test_a_closed_loop_has_no_plan() -> None:
    with pytest.raises(TypeError, match="only an open loop has a plan"):
        planned(Phase(ClosedLoop(1), 0, 3), SEED)


@pytest.mark.parametrize(
    ("concurrency", "count", "loops", "counts"),
    [
        (16, 100, [4, 4, 4, 4], [25, 25, 25, 25]),
        (6, 10, [2, 2, 1, 1], [3, 3, 2, 2]),
        (2, 10, [1, 1, 0, 0], [5, 5, 0, 0]),  # processes without concurrency have nothing to send
        (1, 3, [1, 0, 0, 0], [3, 0, 0, 0]),
        (8, 2, [2, 2, 2, 2], [1, 1, 0, 0]),
    ],
)
def test_shares_of_a_closed_loop(concurrency: int, count: int, loops: list[int], counts: list[int]) -> None:
    shares = [Share(index, 4) for index in range(4)]
    assert [concurrency_of(concurrency, share) for share in shares] == loops
    assert [count_of(count, concurrency, share) for share in shares] == counts
