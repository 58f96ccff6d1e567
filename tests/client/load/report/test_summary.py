"""The figures of samples for which the right figures are known."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.phases import ClosedLoop, Load, OpenLoop
from headrace.client.load.record.samples import NO_SAMPLES, Samples, concatenated
from headrace.client.load.report.breakdown import TimeBreakdown
from headrace.client.load.report.distribution import PERCENTILES, SAME_RATIO, Percentiles, percentiles, quantiles
from headrace.client.load.report.summary import Growth, curve, load_text, summarise
from tests.client.load.synthetic_runs import failed, outcome, overloaded, samples, stalled, steady, with_statistics


def test_percentiles_of_a_known_grid_are_exact() -> None:
    grid = np.random.default_rng(1).permutation(np.arange(1, 100_001)) / 1e6
    measured = samples(np.arange(100_000) / 1e4, grid)
    latency = summarise(outcome(OpenLoop(1e4, 1e4), measured)).latency
    assert latency == Percentiles(0.05, 0.09, 0.095, 0.099, 0.0999, 0.1, mean=latency.mean if latency else 0, min=1e-6)
    assert latency.mean == pytest.approx(0.0500005)


@pytest.mark.parametrize(
    ("count", "ranks"),
    [
        (1, (None, None, None, None, None)),
        (2, (1, None, None, None, None)),
        (9, (5, None, None, None, None)),
        (10, (5, 9, None, None, None)),
        (20, (10, 18, 19, None, None)),
        (99, (50, 90, 95, None, None)),
        (100, (50, 90, 95, 99, None)),
        (999, (500, 900, 950, 990, None)),
        (1000, (500, 900, 950, 990, 999)),
    ],
)
def test_every_percentile_is_a_measured_duration_if_there_are_enough(count: int, ranks: tuple[int | None, ...]) -> None:
    summary = percentiles([np.arange(1.0, count + 1)])
    assert summary is not None
    assert astuple(summary)[:5] == ranks


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=300))
def test_percentiles_are_ordered_and_of_nearest_rank(durations: list[float]) -> None:
    summary = percentiles([np.array(durations)])
    assert summary is not None
    found = {thousandths: getattr(summary, name) for name, thousandths in PERCENTILES.items()}
    known = {thousandths: value for thousandths, value in found.items() if value is not None}
    assert len(known) == sum(len(durations) >= 1000 / (1000 - thousandths) for thousandths in found)
    assert [summary.min, *known.values(), summary.max] == sorted([summary.min, *known.values(), summary.max])
    assert summary.min <= summary.mean <= summary.max
    for thousandths, value in known.items():
        assert 1000 * sum(each <= value for each in durations) >= thousandths * len(durations)
        assert 1000 * sum(each < value for each in durations) < thousandths * len(durations)


def test_a_stall_shows_in_the_latency_but_not_in_the_service_time() -> None:
    """100/s, 1 ms each, one in flight, and once 1.4 s more: the j-th request behind it takes 1401 - 9j ms."""
    summary = summarise(stalled())
    assert summary.latency is not None
    assert summary.service is not None
    assert summary.latency.p99 == pytest.approx(1.401 - 0.009 * 10)
    assert summary.latency.p99_9 == pytest.approx(1.401 - 0.009)
    assert summary.latency.p90 == pytest.approx(1.401 - 0.009 * 100)
    assert summary.latency.p50 == pytest.approx(0.001)
    assert (summary.service.p99, summary.service.p99_9, summary.service.max) == (0.001, 0.001, 1.401)
    assert (summary.planned, summary.sent, summary.late, summary.unsent) == (1000, 1000, 155, 0)
    assert summary.plan_kept == 84.5
    assert summary.throughput == 100
    assert summary.warnings == [
        "only 84.5 % of the plan was kept: of 1,000 requests, 155 were sent late",
        "155 requests had to wait because the window was full, 698 ms on average",
    ]


def test_an_overload_is_reported_as_one() -> None:
    summary = summarise(overloaded())
    assert summary.planned == 5000
    assert summary.sent == 1800 + 63
    assert summary.unsent == 5000 - 1863
    assert summary.rate_planned == 500
    assert summary.rate_sent == pytest.approx(186.3)
    assert summary.throughput == pytest.approx(180, rel=0.001)
    assert summary.late == 1863 - 99
    assert summary.plan_kept == 1.98
    assert summary.growth is not None
    assert summary.growth.last > 5 * summary.growth.first
    assert summary.warnings == [
        "only 1.9 % of the plan was kept: of 5,000 requests, 1,764 were sent late and 3,137 were never sent",
        "4,901 requests had to wait because the window was full, 3.14 s on average",
        "the server handled only 180/s of the planned 500/s",
        "latency grew from 665 ms to 5.97 s between the first and the last fifth of the phase",
    ]


def test_a_good_run_has_no_warnings() -> None:
    for load in (OpenLoop(200, 200), OpenLoop(50, 350), ClosedLoop(8)):
        assert summarise(steady(load)).warnings == []


def test_a_last_answer_after_the_end_of_the_plan_is_not_an_overload() -> None:
    short = outcome(OpenLoop(200, 200), samples(np.arange(10) / 200, 0.05), duration=0.05)
    summary = summarise(short)
    assert summary.throughput == pytest.approx(10 / 0.095)
    assert summary.warnings == []


def test_a_run_without_success_has_no_times() -> None:
    summary = summarise(failed())
    assert (summary.ok, summary.failed, summary.errors, summary.no_answer) == (0, 100, {"UNAVAILABLE": 99}, 1)
    assert (summary.latency, summary.service, summary.breakdown, summary.slowest, summary.growth) == (None,) * 5
    assert summary.throughput == 0
    assert summary.rate_sent == 10
    assert summary.warnings == [
        "nothing was measured, as no request succeeded",
        "the server handled only 0/s of the planned 10/s",
        "99 of 100 requests failed: 99 UNAVAILABLE from 0 to 9.80 s ('connection refused\\\\x1b[2J')",
        "1 request had not been answered when the phase ended",
    ]


def test_a_run_that_sent_nothing_has_rates_of_zero() -> None:
    summary = summarise(outcome(OpenLoop(10, 10), NO_SAMPLES, elapsed=0.0, interrupted=True))
    assert (summary.plan_kept, summary.rate_planned, summary.rate_sent, summary.throughput) == (0, 0, 0, 0)
    assert summary.warnings == [
        "interrupted after 0 ms: the figures cover that part only",
        "nothing was measured, as no request was sent",
    ]


def test_requests_without_an_answer_count_as_at_least_their_wait() -> None:
    """A quarter of 400 is lost: at 3 s the server is gone, and one request in flight is lost with it after 2 s.

    98 fail at once, as there is no connection, and count until the plan was over. The last one was not answered.
    """
    due = np.arange(400) / 100
    lost = samples(due[300:301], 2.0, code=14)
    never_sent = samples(due[301:399], 0.0004, wait=np.inf, connection=0.0002, code=14)
    waiting = samples(due[399:], 10.0, code=-1)
    measured = concatenated([samples(due[:300], 0.001), lost, never_sent, waiting])
    summary = summarise(outcome(OpenLoop(100, 100), measured, 4.0))
    assert (summary.sent, summary.unsent, summary.failed, summary.no_answer) == (302, 98, 100, 1)
    assert summary.answered == Percentiles(0.001, 0.001, 0.001, 0.001, None, max=0.001, mean=0.001, min=0.001)
    found = summary.latency
    assert found is not None
    assert (found.p50, found.max) == (0.001, 10.0)
    # Of 400 the 360th: the sixtieth of those not sent, counted from the last one, which was due at 3.98 s.
    assert found.p90 == pytest.approx(4.0 - 3.98 + 0.59)
    assert found.at_least == {"p90", "p95", "p99", "max", "mean"}
    assert summary.delays.connection.requests == 98
    assert summary.delays.connection.seconds == pytest.approx(sum(4 - due[301:399]), rel=1e-3)
    assert (0.9, found.p90) in curve(outcome(OpenLoop(100, 100), measured, 4.0))


def test_requests_that_were_never_taken_up_count_as_well() -> None:
    """180/s of 500/s: what was sent took up to 6 s, and the half that was never sent waited for up to 6 s already."""
    summary = summarise(overloaded())
    assert summary.answered is not None
    assert summary.latency is not None
    assert summary.answered.p50 == pytest.approx(932 / 180 - 931 / 500)
    assert summary.answered.at_least == frozenset()
    assert summary.latency.at_least >= {"p50", "p90", "p99"}
    assert summary.latency.max == summary.answered.max


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=200), st.lists(st.floats(1e-3, 10), max_size=50), st.data())
def test_a_percentile_is_a_lower_bound_whenever_the_answers_may_come(
    durations: list[float], waits: list[float], data: st.DataObject
) -> None:
    """However much longer requests without an answer take, percentiles do not get lower; those called exact stay."""
    found = percentiles([np.array(durations)], [np.array(waits)])
    more = data.draw(st.lists(st.floats(0, 1e4), min_size=len(waits), max_size=len(waits)))
    final = percentiles([np.array(durations + [wait + late for wait, late in zip(waits, more, strict=True)])])
    assert found is not None
    assert final is not None
    for name in (*PERCENTILES, "max", "mean", "min"):
        first, last = getattr(found, name), getattr(final, name)
        assert (first is None) == (last is None)
        if first is not None:
            assert first <= last * (1 + 1e-9)
            if name not in found.at_least and name != "min":
                assert last <= SAME_RATIO * first


def test_failures_are_counted_but_not_answers() -> None:
    measured = concatenated([samples(np.arange(90) / 10, 0.001), samples([9.1, 9.2, 9.3], 5.0, code=[4, 17, 2])])
    summary = summarise(outcome(OpenLoop(10, 10), measured, messages={4: "too late"}))
    assert summary.answered is not None
    assert summary.answered.max == 0.001
    assert summary.errors == {"UNKNOWN": 1, "DEADLINE_EXCEEDED": 1, "code 17": 1}
    assert summary.warnings[-1] == (
        "3 of 93 requests failed: 1 UNKNOWN at 9.30 s, 1 DEADLINE_EXCEEDED at 9.10 s ('too late'), 1 code 17 at 9.20 s"
    )


def test_long_messages_are_truncated() -> None:
    measured = samples(np.arange(10), 0.001, code=13)
    summary = summarise(outcome(OpenLoop(1, 1), measured, messages={13: "x" * 100_000}))
    assert max(map(len, summary.warnings)) < 300


def test_requests_over_a_millisecond_late_are_late() -> None:
    measured = samples([1.0, 2.0, 3.0, 4.0], 0.01, wait=[0.0, 0.001, 0.001001, 0.002])
    assert summarise(outcome(OpenLoop(100, 100), measured, 4.0)).late == 2


def test_a_slow_client_is_reported_in_a_closed_loop_too() -> None:
    measured = samples(np.arange(100) / 10, 0.01, wait=[0.002] * 30 + [0.0] * 70)
    summary = summarise(outcome(ClosedLoop(1), measured))
    assert summary.rate_planned is None
    assert summary.warnings == [
        "only 70 % of the requests were sent at once: of 100 requests, 30 were sent late",
        "this client was too slow: 30 requests waited for it, 2 ms on average; "
        "try more --processes, and see --self-test",
    ]


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
    measured = samples(np.sqrt(np.arange(400)) / 4, 0.001)
    summary = summarise(outcome(OpenLoop(0, 160), measured, 10.0, elapsed=5.0, interrupted=True))
    assert summary.rate_planned == 80


def breakdown_of(measured: Samples, **message: Any) -> TimeBreakdown:
    summary = summarise(outcome(OpenLoop(100, 100), measured, **message)).breakdown
    assert summary is not None
    return summary


def test_the_parts_of_the_time_add_up_to_the_latency() -> None:
    summary = summarise(steady())
    assert summary.breakdown is not None
    assert summary.latency is not None
    assert astuple(summary.breakdown) == pytest.approx((0, 0, 0, 0.0001, 0.0009, 0.001, 0.002))
    assert summary.breakdown.total == pytest.approx(summary.latency.mean)


def test_unary_answers_without_a_waiting_time_are_complete() -> None:
    summary = breakdown_of(samples(np.arange(10), 0.004, times=(np.nan, 0.001, 0.002)))
    assert astuple(summary) == pytest.approx((0, 0, 0, 0, 0.001, 0.001, 0.002))


def test_server_statistics_are_used_if_answers_carry_no_times() -> None:
    summary = summarise(with_statistics())
    assert summary.breakdown is not None
    assert astuple(summary.breakdown) == pytest.approx((0, 0, 0, 0, 0.001, 0.001, 0.002))
    assert summary.slowest is not None
    assert summary.slowest.queue is None


def test_a_server_that_reports_no_times_is_part_of_the_network() -> None:
    summary = breakdown_of(samples(np.arange(10), 0.004, wait=0.001))
    assert (summary.client, summary.network) == pytest.approx((0.001, 0.003))
    assert (summary.queue, summary.inference) == (None, None)


def test_parts_are_clipped_to_the_time_they_are_part_of() -> None:
    summary = breakdown_of(samples(np.arange(10), 0.004, times=(0.0, 0.003, 0.002)))
    assert astuple(summary) == pytest.approx((0, 0, 0, 0, 0, 0.002, 0.002))


def test_the_slowest_hundredth_is_chosen_by_latency() -> None:
    latency = np.full(1000, 0.002)
    latency[[5, 17, 900]] = 0.5
    latency[:7] += 0.01
    measured = samples(np.arange(1000) / 100, latency, times=(0.0, 0.001, 0.001))
    summary = summarise(outcome(OpenLoop(100, 100), measured)).slowest
    assert summary is not None
    assert summary.total == pytest.approx((3 * 0.5 + 6 * 0.012 + 0.01 + 0.002) / 10)


@pytest.mark.parametrize(
    ("first", "last", "grew"),
    [(0.004, 1.3, True), (0.004, 0.0081, True), (0.004, 0.008, False), (0.0001, 0.001, False), (1.3, 0.004, False)],
)
def test_growth_is_a_doubling_by_more_than_a_millisecond(first: float, last: float, grew: bool) -> None:
    assert Growth(first, last).grew is grew


def test_growth_is_measured_in_the_order_of_due_times() -> None:
    due = np.random.default_rng(3).permutation(np.arange(100.0))
    summary = summarise(outcome(OpenLoop(1, 1), samples(due, due / 1000 + 0.001), 100.0)).growth
    assert summary is not None
    assert (summary.first, summary.last) == pytest.approx((0.0105, 0.0905))
    assert summarise(outcome(OpenLoop(1, 1), samples(due[:49], 0.1), 100.0)).growth is None


def test_the_curve_contains_the_percentiles_and_ends_at_the_maximum() -> None:
    measured = samples(np.arange(100_000) / 1e4, np.arange(1, 100_001) / 1e6)
    summary = curve(outcome(OpenLoop(1e4, 1e4), measured))
    assert 150 < len(summary) <= 200
    assert summary[-1] == (1 - 0.5 / 100_000, 0.1)
    assert (0.99, 0.099) in summary
    assert (0.999, 0.0999) in summary
    assert [point for point in summary if not 0 < point[0] < 1] == []
    assert summary == sorted(summary)
    decades = [sum(10**at <= 1 / (1 - p) < 10 ** (at + 1) for p, _ in summary) for at in range(4)]
    assert min(decades) > 30


@given(st.lists(st.floats(1e-6, 1e4), max_size=300))
def test_every_point_of_a_curve_is_a_measured_duration(durations: list[float]) -> None:
    summary = quantiles([np.array(durations)])
    assert len(summary) <= 200
    assert (not summary) == (not durations)
    ordered = sorted(durations)
    for p, value in summary:
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
    measured = samples(intended, 0.001 + intended, wait=intended)
    summary = summarise(outcome(OpenLoop(1000, 1000), measured, 1.0))
    assert summary.warnings == [
        "only 0.2 % of the plan was kept: of 1,000 requests, 998 were sent late",
        "this client was too slow: 998 requests waited for it, 501 ms on average; "
        "try more --processes, and see --self-test",
        "this client sent only 501/s of the planned 1,000/s",
        "latency grew from 100 ms to 901 ms between the first and the last fifth of the phase",
    ]


def test_a_busy_machine_is_neither_a_slow_client_nor_a_slow_server() -> None:
    intended = np.arange(1000) / 1000
    measured = samples(intended, 0.001 + intended, wait=intended, machine=0.9 * intended)
    summary = summarise(outcome(OpenLoop(1000, 1000), measured, 1.0))
    assert summary.warnings[1:3] == [
        "this machine was too busy with other work: 998 requests waited for a processor, 450 ms on average",
        "this machine sent only 501/s of the planned 1,000/s",
    ]
    assert summary.breakdown is not None
    assert summary.breakdown.machine == pytest.approx(0.9 * intended.mean())
    assert summary.breakdown.client == pytest.approx(0.1 * intended.mean())


def test_a_slow_client_whose_requests_were_all_sent_is_not_said_to_have_sent_too_few() -> None:
    """All requests are sent within the plan, but late; the last ones are answered long after it."""
    intended = np.arange(1000) / 100
    measured = samples(intended, 0.05 + intended / 4, wait=0.02)
    summary = summarise(outcome(OpenLoop(100, 100), measured))
    assert summary.rate_sent == pytest.approx(100, rel=0.01)
    assert summary.warnings[2] == "the server handled only 79.8/s of the planned 100/s"
