"""Confidence intervals, and whether differences are more than chance: right as often as they claim to be."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.run import Outcome, Tail
from headrace.client.load.report.confidence import (
    differ,
    differ_in_pairs,
    interval,
    part_values,
    t_quantile,
)
from headrace.client.load.report.differences import comparison_rows
from headrace.client.load.report.repetitions import repetitions
from headrace.client.load.report.summary import summarise
from tests.client.load.synthetic_runs import outcome, overloaded, run, samples, steady

TRIES = 2000
ROOM = 0.02
"""How far a share of so many tries may be from the 5 % it should be."""


def noisy(random: np.random.Generator, scale: float = 1.0, first: float = 200, last: float = 200) -> Outcome:
    """Ten seconds, the latencies of which are random, and higher where the rate is."""
    due = np.linspace(0, 10, round(5 * (first + last)), endpoint=False)
    grown = np.linspace(1, last / first, len(due))
    return outcome(OpenLoop(first, last), samples(due, scale * grown * random.gamma(4, 0.001, len(due))))


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (9.9, 2.2622), (30, 2.0423), (40, 2.0211), (120, 1.9799)]
)
def test_the_quantiles_are_those_of_student(degrees: float, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=1e-3)


def test_without_a_degree_of_freedom_nothing_is_known() -> None:
    assert t_quantile(0.5) == math.inf
    assert interval([1.0]) is None
    assert differ([1.0], [2.0, 2.1]) is None
    assert differ_in_pairs([1.0], [2.0]) is None


def test_an_interval_is_that_of_a_textbook() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    assert (found.mean, found.half, found.count) == pytest.approx((3.0, 1.9634, 5), abs=1e-3)


@pytest.mark.parametrize("count", [2, 3, 5, 20, 50])
def test_an_interval_contains_the_truth_95_times_of_100(count: int) -> None:
    random = np.random.default_rng(count)
    found = [interval(random.normal(7, 2, count).tolist()) for _ in range(TRIES)]
    missed = sum(each is not None and abs(each.mean - 7) > each.half for each in found) / TRIES
    assert missed == pytest.approx(0.05, abs=ROOM)


@pytest.mark.parametrize(("counts", "spreads"), [((5, 5), (1, 1)), ((3, 10), (1, 4)), ((20, 4), (3, 1))])
def test_equal_things_differ_5_times_of_100(counts: tuple[int, int], spreads: tuple[float, float]) -> None:
    random = np.random.default_rng(1)

    def values(at: int) -> list[float]:
        return list(random.normal(7, spreads[at], counts[at]))

    assert sum(bool(differ(values(0), values(1))) for _ in range(TRIES)) / TRIES == pytest.approx(0.05, abs=ROOM)


def test_values_without_any_spread_differ_if_they_do() -> None:
    assert differ([1.0, 1.0], [2.0, 2.0]) is True
    assert differ([1.0, 1.0], [1.0, 1.0]) is False


@pytest.mark.parametrize("figure", ["p50", "p99", "mean"])
def test_parts_of_equal_phases_rarely_differ(figure: str) -> None:
    random = np.random.default_rng(2)
    found = []
    for _ in range(200):
        one, other = (part_values(noisy(random), figure) for _ in range(2))
        assert one is not None
        assert other is not None
        found.append(differ_in_pairs(one, other))
    assert sum(map(bool, found)) / 200 < 0.1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda random: noisy(random), lambda random: noisy(random, 1.2)),
        (lambda random: noisy(random, 1, 50, 500), lambda random: noisy(random, 1.2, 50, 500)),
    ],
)
def test_parts_tell_a_fifth_more_even_along_a_ramp(
    one: Callable[[np.random.Generator], Outcome], other: Callable[[np.random.Generator], Outcome]
) -> None:
    random = np.random.default_rng(3)
    assert repetitions([one(random)]).differs(repetitions([other(random)]), "p50") is True


def test_a_part_with_too_few_requests_says_nothing() -> None:
    thousand = noisy(np.random.default_rng(4), first=100, last=100)
    assert part_values(thousand, "p99") is not None
    assert part_values(thousand, "p99_9") is None
    assert part_values(outcome(OpenLoop(1, 1), samples([], [])), "p50") is None
    assert repetitions([thousand]).differs(repetitions([thousand]), "p99_9") is None


def test_the_parts_of_a_steady_phase_are_equal() -> None:
    assert part_values(steady(), "p50") == pytest.approx([0.004] * 10)
    values = part_values(steady(), "throughput")
    assert values is not None
    assert values == pytest.approx([200] * 10, abs=1)


def test_repetitions_have_the_means_and_the_sums_of_their_figures() -> None:
    each = [steady(latency=0.004), steady(latency=0.006), overloaded()]
    together = repetitions(each[:2])
    assert together.summary.load == "2 times 200/s"
    assert together.summary.sent == 4000
    assert together.summary.elapsed == pytest.approx(20, abs=0.01)
    assert together.summary.throughput == pytest.approx(200, abs=0.1)
    assert together.summary.latency is not None
    assert together.summary.latency.p99 == pytest.approx(0.005)
    assert together.summary.breakdown is not None
    assert together.summary.breakdown.total == pytest.approx(0.005)
    found = together.interval("p99")
    assert found is not None
    assert (found.mean, found.half, found.count) == pytest.approx((0.005, 12.7062e-3, 2), rel=1e-3)
    assert together.summary.warnings == []
    warned = repetitions(each).summary.warnings
    assert warned == [f"{warning} (repetition 3)" for warning in summarise(each[2]).warnings]


def with_unsent(latency: float, unsent: int) -> Outcome:
    """A thousand requests, and others that waited for the window for the last of ten seconds."""
    due = np.arange(1000) / 100
    tail = Tail(0, 0, 1, first=9.0, until=10.0, window=1.0, connection=0.0, machine=0.0)
    measured = samples(due, latency).select(due < 10.0 - unsent / 100)
    return outcome(OpenLoop(100, 100), measured, planned=1000, unsent=unsent, tails=(tail,) if unsent else ())


def test_of_a_lower_bound_in_one_repetition_no_interval_is_known() -> None:
    repeated = repetitions([with_unsent(0.004, 0), with_unsent(0.004, 100)])
    assert repeated.summary.latency is not None
    assert {"p99", "max", "mean"} <= repeated.summary.latency.at_least
    assert repeated.interval("p99") is None
    assert repeated.interval("p50") is not None
    assert repeated.summary.delays.window.requests == repeated.summary.unsent == 100
    assert repeated.summary.delays.window.seconds == pytest.approx(50, rel=0.02)


def test_parts_count_what_was_never_sent_as_its_wait() -> None:
    means = part_values(with_unsent(0.004, 100), "mean")
    assert means is not None
    assert means[:9] == pytest.approx([0.004] * 9)
    assert means[9] == pytest.approx(0.5, rel=0.02)


def test_a_percentile_that_one_repetition_does_not_know_has_no_mean() -> None:
    repeated = repetitions([steady(count=1000), steady(count=99)])
    assert repeated.summary.latency is not None
    assert repeated.summary.latency.p99 is None
    assert repeated.summary.latency.p95 is not None
    assert repeated.interval("p99") is None


def test_an_interrupted_repetition_does_not_count() -> None:
    cut = steady(latency=0.5)
    cut.interrupted = True
    assert repetitions([steady(), cut]).summary == summarise(steady())
    assert repetitions([cut]).summary == summarise(cut)


def test_repetitions_are_one_row_and_compared_as_such() -> None:
    random = np.random.default_rng(5)
    first, same, slower = (
        run(*(noisy(random, scale * random.normal(1, 0.03)) for _ in range(5)), repeat=5) for scale in (1, 1, 1.3)
    )
    (row,) = comparison_rows([first, same, slower])
    assert row.load == "200/s"
    assert [each and each.load for each in row.summaries] == ["5 times 200/s"] * 3
    assert (row.differs(1, "p50"), row.differs(2, "p50")) == (False, True)


def test_a_phase_that_only_one_run_has_is_not_compared() -> None:
    rows = comparison_rows([run(steady(ClosedLoop(1)), steady(ClosedLoop(2))), run(steady(ClosedLoop(1)))])
    assert [row.differs(1, "p50") for row in rows] == [False, None]
