"""The figures of samples for which the right figures are known."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.client.load.planning.phases import ClosedLoop, Load, OpenLoop
from headrace.client.load.record.samples import NO_SAMPLES, Samples, concatenated
from headrace.client.load.report.distribution import Percentiles, percentiles, quantiles
from headrace.client.load.report.summary import Growth, TimeBreakdown, curve, load_text, summarise
from tests.client.load.synthetic_runs import failed, outcome, overloaded, samples, stalled, steady, with_statistics


def test_percentiles_of_a_known_grid_are_exact() -> None:
    grid = np.random.default_rng(1).permutation(np.arange(1, 100_001)) / 1e6
    made = samples(np.arange(100_000) / 1e4, grid)
    latency = summarise(outcome(OpenLoop(1e4, 1e4), made)).latency
    assert latency == Percentiles(0.05, 0.09, 0.095, 0.099, 0.0999, 0.1, mean=latency.mean if latency else 0, min=1e-6)
    assert latency.mean == pytest.approx(0.0500005)


@pytest.mark.parametrize(
    ("count", "ranks"),
    [(1, (1, 1, 1, 1, 1)), (2, (1, 2, 2, 2, 2)), (10, (5, 9, 10, 10, 10)), (1000, (500, 900, 950, 990, 999))],
)
def test_every_percentile_is_a_measured_duration(count: int, ranks: tuple[int, ...]) -> None:
    found = percentiles(np.arange(1.0, count + 1))
    assert found is not None
    assert astuple(found)[:5] == ranks


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=300))
def test_percentiles_are_ordered_and_of_nearest_rank(durations: list[float]) -> None:
    found = percentiles(np.array(durations))
    assert found is not None
    p50, p90, p95, p99, p99_9, most, mean, least = astuple(found)
    assert least <= p50 <= p90 <= p95 <= p99 <= p99_9 <= most
    assert least <= mean <= most
    for thousandths, value in ((500, p50), (900, p90), (950, p95), (990, p99), (999, p99_9)):
        assert 1000 * sum(each <= value for each in durations) >= thousandths * len(durations)
        assert 1000 * sum(each < value for each in durations) < thousandths * len(durations)


def test_a_stall_shows_in_the_latency_but_not_in_the_service_time() -> None:
    """100/s, 1 ms each, one in flight, and once 1.4 s more: the j-th request behind it takes 1401 - 9j ms."""
    found = summarise(stalled())
    assert found.latency is not None
    assert found.service is not None
    assert found.latency.p99 == pytest.approx(1.401 - 0.009 * 10)
    assert found.latency.p99_9 == pytest.approx(1.401 - 0.009)
    assert found.latency.p90 == pytest.approx(1.401 - 0.009 * 100)
    assert found.latency.p50 == pytest.approx(0.001)
    assert (found.service.p99, found.service.p99_9, found.service.max) == (0.001, 0.001, 1.401)
    assert (found.planned, found.sent, found.late, found.unsent) == (1000, 1000, 155, 0)
    assert found.plan_kept == 84.5
    assert found.throughput == 100
    assert found.warnings == [
        "only 84.5 % of the plan was kept: of 1,000 requests, 155 were sent late",
        "155 requests had to wait because the window was full",
    ]


def test_an_overload_is_reported_as_one() -> None:
    found = summarise(overloaded())
    assert found.planned == 5000
    assert found.sent == 1800 + 63
    assert found.unsent == 5000 - 1863
    assert found.rate_planned == 500
    assert found.rate_sent == pytest.approx(186.3)
    assert found.throughput == pytest.approx(180, rel=0.001)
    assert found.late == 1863 - 99
    assert found.plan_kept == 1.98
    assert found.growth is not None
    assert found.growth.last > 5 * found.growth.first
    assert found.warnings == [
        "only 1.9 % of the plan was kept: of 5,000 requests, 1,764 were sent late and 3,137 were never sent",
        "1,764 requests had to wait because the window was full",
        "the server handled only 180/s of the planned 500/s",
        "latency grew from 665 to 5,970 ms between the first and the last fifth of the phase",
    ]


def test_a_good_run_has_no_warnings() -> None:
    for load in (OpenLoop(200, 200), OpenLoop(50, 350), ClosedLoop(8)):
        assert summarise(steady(load)).warnings == []


def test_a_last_answer_after_the_end_of_the_plan_is_not_an_overload() -> None:
    short = outcome(OpenLoop(200, 200), samples(np.arange(10) / 200, 0.05), duration=0.05)
    found = summarise(short)
    assert found.throughput == pytest.approx(10 / 0.095)
    assert found.warnings == []


def test_a_run_without_success_has_no_times() -> None:
    found = summarise(failed())
    assert (found.ok, found.failed, found.errors, found.no_answer) == (0, 100, {"UNAVAILABLE": 99}, 1)
    assert (found.latency, found.service, found.breakdown, found.slowest, found.growth) == (None,) * 5
    assert found.throughput == 0
    assert found.rate_sent == 10
    assert found.warnings == [
        "the server handled only 0/s of the planned 10/s",
        "99 of 100 requests failed: 99 UNAVAILABLE ('connection refused\\\\x1b[2J')",
        "1 request had not been answered when the phase ended",
    ]


def test_a_run_that_sent_nothing_has_rates_of_zero() -> None:
    found = summarise(outcome(OpenLoop(10, 10), NO_SAMPLES, elapsed=0.0, interrupted=True))
    assert (found.plan_kept, found.rate_planned, found.rate_sent, found.throughput) == (0, 0, 0, 0)
    assert found.warnings == [
        "interrupted after 0 ms: the figures cover that part only",
        "nothing was measured, as no request was sent",
    ]


def test_failures_are_counted_but_not_part_of_the_latency() -> None:
    made = concatenated([samples(np.arange(90) / 10, 0.001), samples([9.1, 9.2, 9.3], 5.0, code=[4, 17, 2])])
    found = summarise(outcome(OpenLoop(10, 10), made, messages={4: "too late"}))
    assert found.latency is not None
    assert found.latency.max == 0.001
    assert found.errors == {"UNKNOWN": 1, "DEADLINE_EXCEEDED": 1, "code 17": 1}
    assert found.warnings[-1] == ("3 of 93 requests failed: 1 UNKNOWN, 1 DEADLINE_EXCEEDED ('too late'), 1 code 17")


def test_long_messages_are_truncated() -> None:
    made = samples(np.arange(10), 0.001, code=13)
    found = summarise(outcome(OpenLoop(1, 1), made, messages={13: "x" * 100_000}))
    assert max(map(len, found.warnings)) < 300


def test_requests_over_a_millisecond_late_are_late() -> None:
    made = samples([1.0, 2.0, 3.0, 4.0], 0.01, wait=[0.0, 0.001, 0.001001, 0.002])
    assert summarise(outcome(OpenLoop(100, 100), made, 4.0)).late == 2


def test_a_slow_client_is_reported_in_a_closed_loop_too() -> None:
    made = samples(np.arange(100) / 10, 0.01, wait=[0.002] * 30 + [0.0] * 70)
    found = summarise(outcome(ClosedLoop(1), made))
    assert found.rate_planned is None
    assert found.warnings == ["this client is too slow: it sent 30 % of the requests over 1 ms late"]


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (OpenLoop(200, 200), "200/s"),
        (OpenLoop(50, 500, "poisson"), "50 to 500/s poisson"),
        (OpenLoop(0.5, 0.5), "0.5/s"),
        (OpenLoop(12_500, 12_500), "12,500/s"),
        (ClosedLoop(16), "16 in flight"),
    ],
)
def test_loads_are_described_in_text(load: Load, text: str) -> None:
    assert load_text(load) == text


def test_the_planned_rate_of_an_interrupted_ramp_covers_the_part_before_the_interrupt() -> None:
    made = samples(np.sqrt(np.arange(400)) / 4, 0.001)
    found = summarise(outcome(OpenLoop(0, 160), made, 10.0, elapsed=5.0, interrupted=True))
    assert found.rate_planned == 80


def breakdown_of(made: Samples, **said: Any) -> TimeBreakdown:
    found = summarise(outcome(OpenLoop(100, 100), made, **said)).breakdown
    assert found is not None
    return found


def test_the_parts_of_the_time_add_up_to_the_latency() -> None:
    found = summarise(steady())
    assert found.breakdown is not None
    assert found.latency is not None
    assert astuple(found.breakdown) == pytest.approx((0.0001, 0.0009, 0.001, 0.002))
    assert found.breakdown.total == pytest.approx(found.latency.mean)


def test_unary_answers_without_a_waiting_time_are_complete() -> None:
    found = breakdown_of(samples(np.arange(10), 0.004, times=(np.nan, 0.001, 0.002)))
    assert astuple(found) == pytest.approx((0, 0.001, 0.001, 0.002))


def test_server_statistics_are_used_if_answers_carry_no_times() -> None:
    found = summarise(with_statistics())
    assert found.breakdown is not None
    assert astuple(found.breakdown) == pytest.approx((0, 0.001, 0.001, 0.002))
    assert found.slowest is not None
    assert found.slowest.queue is None


def test_a_server_that_reports_no_times_is_part_of_the_network() -> None:
    found = breakdown_of(samples(np.arange(10), 0.004, wait=0.001))
    assert (found.client, found.network) == pytest.approx((0.001, 0.003))
    assert (found.queue, found.inference) == (None, None)


def test_parts_are_clipped_to_the_time_they_are_part_of() -> None:
    found = breakdown_of(samples(np.arange(10), 0.004, times=(0.0, 0.003, 0.002)))
    assert astuple(found) == pytest.approx((0, 0, 0.002, 0.002))


def test_the_slowest_hundredth_is_chosen_by_latency() -> None:
    latency = np.full(1000, 0.002)
    latency[[5, 17, 900]] = 0.5
    latency[:7] += 0.01
    made = samples(np.arange(1000) / 100, latency, times=(0.0, 0.001, 0.001))
    found = summarise(outcome(OpenLoop(100, 100), made)).slowest
    assert found is not None
    assert found.total == pytest.approx((3 * 0.5 + 6 * 0.012 + 0.01 + 0.002) / 10)


@pytest.mark.parametrize(
    ("first", "last", "grew"),
    [(0.004, 1.3, True), (0.004, 0.0081, True), (0.004, 0.008, False), (0.0001, 0.001, False), (1.3, 0.004, False)],
)
def test_growth_is_a_doubling_by_more_than_a_millisecond(first: float, last: float, grew: bool) -> None:
    assert Growth(first, last).grew is grew


def test_growth_is_measured_in_the_order_of_due_times() -> None:
    due = np.random.default_rng(3).permutation(np.arange(100.0))
    found = summarise(outcome(OpenLoop(1, 1), samples(due, due / 1000 + 0.001), 100.0)).growth
    assert found is not None
    assert (found.first, found.last) == pytest.approx((0.0105, 0.0905))
    assert summarise(outcome(OpenLoop(1, 1), samples(due[:49], 0.1), 100.0)).growth is None


def test_the_curve_contains_the_percentiles_and_ends_at_the_maximum() -> None:
    made = samples(np.arange(100_000) / 1e4, np.arange(1, 100_001) / 1e6)
    found = curve(made)
    assert 150 < len(found) <= 200
    assert found[-1] == (1 - 0.5 / 100_000, 0.1)
    assert (0.99, 0.099) in found
    assert (0.999, 0.0999) in found
    assert [point for point in found if not 0 < point[0] < 1] == []
    assert found == sorted(found)
    decades = [sum(10**at <= 1 / (1 - p) < 10 ** (at + 1) for p, _ in found) for at in range(4)]
    assert min(decades) > 30


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e4), max_size=300))
def test_every_point_of_a_curve_is_a_measured_duration(durations: list[float]) -> None:
    found = quantiles(np.array(durations))
    assert len(found) <= 200
    assert (not found) == (not durations)
    ordered = sorted(durations)
    for p, value in found:
        assert value == ordered[math.ceil(round(p * len(ordered), 6)) - 1]


@pytest.mark.parametrize(
    ("load", "seconds"),
    [
        (OpenLoop(20, 20), 0.005),
        (OpenLoop(10, 30), 0.005),
        (OpenLoop(100, 100), 0.001),
        (OpenLoop(5000, 5000), 0.001),
        (ClosedLoop(4), 0.001),
    ],
)
def test_the_limit_for_late_depends_on_the_rate(load: Load, seconds: float) -> None:
    intended = np.arange(10) / 10
    for wait, late in ((0.9 * seconds, 0), (1.1 * seconds, 10)):
        assert summarise(outcome(load, samples(intended, 1.0, wait=wait))).late == late


def test_the_server_is_not_blamed_for_a_slow_client() -> None:
    intended = np.arange(1000) / 1000
    made = samples(intended, 0.001 + intended, wait=intended)
    found = summarise(outcome(OpenLoop(1000, 1000), made, 1.0, planned=1500, unsent=500))
    assert found.no_room == 0
    assert found.warnings[1] == "this client was too slow: try more --processes, and see --self-test"
    assert found.warnings[2].startswith("this client sent only ")
