"""The figures of a phase while it runs."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.report.progress import PhaseProgress
from tests.client.load.synthetic_runs import ended_samples

TIMED = Phase(OpenLoop(10, 10), warmup=2, duration=8)
COUNTED = Phase(ClosedLoop(4), warmup=2, duration=None, count=200)


@pytest.mark.parametrize(
    ("now", "fraction_done", "seconds_left"), [(-3, 0, 11), (-2, 0, 10), (3, 0.5, 5), (8, 1, 0), (9, 1, 0)]
)
def test_a_phase_with_a_duration_progresses_by_the_clock(now: float, fraction_done: float, seconds_left: float) -> None:
    progress = PhaseProgress(TIMED)
    assert progress.fraction_done(now) == fraction_done
    assert progress.seconds_left(now) == seconds_left


def test_a_phase_with_a_count_progresses_by_the_answers() -> None:
    progress = PhaseProgress(COUNTED)
    assert (progress.fraction_done(5), progress.seconds_left(5)) == (0, None)
    progress.add(ended_samples(*[0.01] * 20), 1.0)
    progress.add(ended_samples(*[0.01] * 30), 2.0)
    assert progress.fraction_done(2) == 0.25
    assert progress.rate == 30
    assert progress.seconds_left(2) == pytest.approx(5)


def test_the_rate_covers_the_last_seconds() -> None:
    progress = PhaseProgress(TIMED)
    for second in (-2, -1):
        progress.add(ended_samples(), float(second))
    progress.add(ended_samples(*[0.01] * 10), 0.0)
    progress.add(ended_samples(*[0.01] * 10), 0.5)
    assert progress.rate == 20
    for second in range(1, 20):
        progress.add(ended_samples(*[0.01] * (10 if second < 10 else 50)), float(second))
    assert progress.rate == 50


def test_percentiles_are_exact_to_two_percent() -> None:
    progress = PhaseProgress(TIMED)
    latencies = np.random.default_rng(1).lognormal(-5, 1, 20_000)
    for part in np.split(latencies, 20):
        progress.add(ended_samples(*part), 1.0)
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = np.percentile(latencies, 100 * share, method="inverted_cdf")
        assert progress.percentile(share) == pytest.approx(exact, rel=0.02)


def test_failures_are_counted_but_not_part_of_the_latency() -> None:
    progress = PhaseProgress(TIMED)
    assert progress.text(-1) == "warming up"
    progress.add(ended_samples(0.5, 0.5, code=14), 1.0)
    assert progress.percentile(0.5) is None
    assert progress.text(1) == "0/s  p50 -  p99 -  2 errors"
    progress.add(ended_samples(*[0.1] * 8), 2.0)
    assert progress.percentile(0.5) == pytest.approx(0.1, rel=0.02)
    assert (progress.answered, progress.errors) == (10, 2)
    assert progress.text(2).startswith("8/s  p50 10")
    assert progress.text(2).endswith("2 errors")


@pytest.mark.parametrize("latency", [0.0, 1e-9, 1e5])
def test_extreme_latencies_are_still_counted(latency: float) -> None:
    progress = PhaseProgress(TIMED)
    progress.add(ended_samples(latency), 1.0)
    assert progress.percentile(0.5) is not None
