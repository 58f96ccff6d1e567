"""What `--fail-if` accepts, what it refuses, and what it reports."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.report.conditions import Condition, failed_conditions, parse_condition
from headrace.client.load.report.summary import Summary, summarise
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.synthetic_runs import failed, outcome, overloaded, samples, stalled, sweep


def mixed() -> Summary:
    """1,000 planned and 900 sent, of which 20 late and 9 failed; successes took 10.01 ms to 10.9 ms."""
    measured = samples(
        np.arange(900) / 100, 0.01 + np.arange(1, 901) / 1e6, wait=[0.002] * 20 + [0.0] * 880, code=[8] * 9 + [0] * 891
    )
    return summarise(outcome(OpenLoop(100, 100), measured, planned=1000, unsent=100))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("p99>20ms", Condition("p99", ">", Decimal(20), "ms")),
        (" p99.9 >= 1.5 s ", Condition("p99.9", ">=", Decimal("1.5"), "s")),
        ("service.p50<=500us", Condition("service.p50", "<=", Decimal(500), "us")),
        ("errors>1%", Condition("errors", ">", Decimal(1), "%")),
        ("errors>0", Condition("errors", ">", Decimal(0), "")),
        ("throughput<500/s", Condition("throughput", "<", Decimal(500), "/s")),
        ("plan<99%", Condition("plan", "<", Decimal(99), "%")),
    ],
)
def test_conditions_are_parsed(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is not a condition; examples: p99>20ms"),
        ("p99", "is not a condition"),
        ("p99=20ms", "is not a condition"),
        ("p99>20 minutes", "is not a condition"),
        ("p99>-1ms", "is not a condition"),
        ("p99>1e3ms", "is not a condition"),
        ("p99>20ms,errors>0", "is not a condition"),
        ("p98>20ms", r"unknown figure 'p98'; choose from p50, p90, .*, max, mean, min .*service\.p99.*throughput"),
        ("service.errors>1", r"unknown figure 'service\.errors'"),
        ("p99>20", "the unit of p99 must be us or µs or ms or s$"),
        ("p99>20%", "the unit of p99 must be"),
        ("errors>1ms", "the unit of errors must be none or %$"),
        ("plan<99", "the unit of plan must be %$"),
        ("throughput<500", "the unit of throughput must be /s$"),
        ("p" * 100_000 + ">1ms", "unknown figure 'ppp"),
    ],
)
def test_invalid_conditions_are_usage_errors(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=error) as caught:
        parse_condition(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max>10.8ms", "max is 10.9 ms, which is > 10.8 ms"),
        ("max>=10.9ms", "max is 10.9 ms, which is >= 10.9 ms"),
        ("max>10.9ms", ""),
        ("min<=10010us", "min is 10,010 us, which is <= 10010 us"),
        ("p50<1s", "p50 is 0.010455 s, which is < 1 s"),
        ("service.max<0.02s", "service.max is 0.0109 s, which is < 0.02 s"),
        ("errors>0", "errors is 9, which is > 0"),
        ("errors>=1%", "errors is 1 %, which is >= 1 %"),
        ("errors>1%", ""),
        ("late>1%", "late is 2 %, which is > 1 %"),
        ("unsent>=100", "unsent is 100, which is >= 100"),
        ("unsent>10%", ""),
        ("plan<99%", "plan is 88 %, which is < 99 %"),
        ("throughput<=89.1/s", "throughput is 89.1/s, which is <= 89.1/s"),
        ("throughput<89/s", ""),
    ],
)
def test_failed_conditions_are_sentences(text: str, message: str) -> None:
    assert failed_conditions([parse_condition(text)], [mixed()]) == ([f"{message} (100/s)"] if message else [])


def test_a_limit_is_compared_to_the_nanosecond() -> None:
    """As floats, 5.1 - 5 and 0.1 are not equal."""
    found = summarise(outcome(OpenLoop(1, 1), samples(np.arange(1000), 0.1), 1000.0))
    assert failed_conditions([parse_condition("max>100ms"), parse_condition("min<100ms")], [found]) == []
    assert len(failed_conditions([parse_condition("max>=100ms"), parse_condition("p99<=0.1s")], [found])) == 2


def test_each_phase_is_checked() -> None:
    summaries = [summarise(each) for each in sweep().outcomes]
    assert failed_conditions([parse_condition("p99>10ms"), parse_condition("errors>0")], summaries) == [
        "p99 is 12 ms, which is > 10 ms (phase 5: 16 in flight)",
        "p99 is 20 ms, which is > 10 ms (phase 6: 32 in flight)",
    ]


def test_an_unknown_latency_fails_the_condition() -> None:
    found = failed_conditions([parse_condition("p99>20ms"), parse_condition("service.max<1s")], [summarise(failed())])
    assert found == [
        "p99 is unknown because no request succeeded, and so counts as > 20 ms (10/s)",
        "service.max is unknown because no request succeeded, and so counts as < 1 s (10/s)",
    ]


def test_a_percentile_of_too_few_requests_fails_the_condition() -> None:
    few = summarise(outcome(ClosedLoop(1), samples(np.zeros(99), 0.001)))
    assert failed_conditions([parse_condition("p99>20ms"), parse_condition("p95>20ms")], [few]) == [
        "p99 is unknown because there are too few requests for it, and so counts as > 20 ms (1 in flight)"
    ]


def test_a_lower_bound_below_the_limit_fails_the_condition() -> None:
    """Of 200 requests, three were lost after 5 ms: p99 may be anything from 5 ms on, p95 is 1 ms."""
    measured = samples(np.arange(200) / 100, [0.001] * 197 + [0.005] * 3, code=[0] * 197 + [14] * 3)
    found = summarise(outcome(OpenLoop(100, 100), measured, 2.0))
    conditions = [parse_condition(text) for text in ("p99>20ms", "p95>20ms", "p99>4ms", "p99<20ms", "service.p99>2ms")]
    assert failed_conditions(conditions, [found]) == [
        "p99 is at least 5 ms, as requests have no answer, and so counts as > 20 ms (100/s)",
        "p99 is 5 ms, which is > 4 ms (100/s)",
        "p99 is 5 ms, which is < 20 ms (100/s)",
    ]


def test_a_run_without_phases_fails_any_condition() -> None:
    assert failed_conditions([parse_condition("errors>0")], []) == ["nothing was measured"]
    assert failed_conditions([], []) == []


def test_conditions_see_a_stall_and_an_overload() -> None:
    conditions = [parse_condition("p99>20ms"), parse_condition("service.p99>20ms"), parse_condition("throughput<450/s")]
    assert failed_conditions(
        conditions[:2], [summarise(stalled()), summarise(outcome(ClosedLoop(1), samples(np.zeros(100), 0.001)))]
    ) == ["p99 is 1.311 s, which is > 20 ms (phase 1: 100/s)"]
    assert [sentence.split(" is ")[0] for sentence in failed_conditions(conditions, [summarise(overloaded())])] == [
        "p99",
        "service.p99",
        "throughput",
    ]
