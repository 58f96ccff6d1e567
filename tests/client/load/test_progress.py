"""What is shown of a phase while it runs."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.load.progress import Progress
from headrace.client.load.run import ClosedLoop, OpenLoop, Phase
from headrace.client.load.samples import Collector, Sample, Samples, Times

TIMED = Phase(OpenLoop(10, 10), warmup=2, duration=8)
COUNTED = Phase(ClosedLoop(4), warmup=2, duration=None, count=200)


def ended(*latencies: float, code: int = 0) -> Samples:
    collector = Collector()
    for latency in latencies:
        collector.add(Sample(1.0, 1.0, 1.0 + latency, code, Times()))
    return collector.take()


@pytest.mark.parametrize(("now", "done", "left"), [(-3, 0, 11), (-2, 0, 10), (3, 0.5, 5), (8, 1, 0), (9, 1, 0)])
def test_a_phase_with_a_duration_is_over_by_the_clock(now: float, done: float, left: float) -> None:
    progress = Progress(TIMED)
    assert progress.done(now) == done
    assert progress.left(now) == left


def test_one_that_counts_is_over_by_the_answers() -> None:
    progress = Progress(COUNTED)
    assert (progress.done(5), progress.left(5)) == (0, None)
    progress.add(ended(*[0.01] * 20), 1.0)
    progress.add(ended(*[0.01] * 30), 2.0)
    assert progress.done(2) == 0.25
    assert progress.rate == 30
    assert progress.left(2) == pytest.approx(5)


def test_the_rate_is_that_of_late() -> None:
    progress = Progress(TIMED)
    for second in (-2, -1):
        progress.add(ended(), float(second))
    progress.add(ended(*[0.01] * 10), 0.0)
    progress.add(ended(*[0.01] * 10), 0.5)
    assert progress.rate == 20
    for second in range(1, 20):
        progress.add(ended(*[0.01] * (10 if second < 10 else 50)), float(second))
    assert progress.rate == 50


def test_percentiles_are_right_to_two_percent() -> None:
    progress = Progress(TIMED)
    latencies = np.random.default_rng(1).lognormal(-5, 1, 20_000)
    for part in np.split(latencies, 20):
        progress.add(ended(*part), 1.0)
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = np.percentile(latencies, 100 * share, method="inverted_cdf")
        assert progress.percentile(share) == pytest.approx(exact, rel=0.02)


def test_failures_are_counted_and_not_measured() -> None:
    progress = Progress(TIMED)
    assert progress.text(-1) == "warming up"
    progress.add(ended(0.5, 0.5, code=14), 1.0)
    assert progress.percentile(0.5) is None
    assert progress.text(1) == "0/s  p50 -  p99 - ms  2 errors"
    progress.add(ended(*[0.1] * 8), 2.0)
    assert progress.percentile(0.5) == pytest.approx(0.1, rel=0.02)
    assert (progress.answered, progress.errors) == (10, 2)
    assert progress.text(2).startswith("8/s  p50 10")
    assert progress.text(2).endswith("2 errors")


@pytest.mark.parametrize("latency", [0.0, 1e-9, 1e5])
def test_what_is_out_of_all_bounds_is_still_counted(latency: float) -> None:
    progress = Progress(TIMED)
    progress.add(ended(latency), 1.0)
    assert progress.percentile(0.5) is not None
