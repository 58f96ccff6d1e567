"""What `--fail-if` takes, what it refuses, and what it says."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from headrace.client.load.report.conditions import Condition, broken, parse_condition
from headrace.client.load.report.summary import Summary, summarise
from headrace.client.load.run import ClosedLoop, OpenLoop
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.made_runs import failed, outcome, overloaded, samples, stalled, sweep


def mixed() -> Summary:
    """1,000 planned, 900 sent: 20 late, 9 failed; the shortest success took 10.01 ms, the longest 10.9 ms."""
    made = samples(
        np.arange(900) / 100, 0.01 + np.arange(1, 901) / 1e6, wait=[0.002] * 20 + [0.0] * 880, code=[8] * 9 + [0] * 891
    )
    return summarise(outcome(OpenLoop(100, 100), made, planned=1000, unsent=100))


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
def test_conditions_are_read(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "cannot be read; write it as in p99>20ms"),
        ("p99", "cannot be read"),
        ("p99=20ms", "cannot be read"),
        ("p99>20 minutes", "cannot be read"),
        ("p99>-1ms", "cannot be read"),
        ("p99>1e3ms", "cannot be read"),
        ("p99>20ms,errors>0", "cannot be read"),
        ("p98>20ms", r"there is no figure 'p98'; there are p50, p90, .*, max, mean, min .*service\.p99.*throughput"),
        ("service.errors>1", r"there is no figure 'service\.errors'"),
        ("p99>20", "the unit of p99 is us or µs or ms or s$"),
        ("p99>20%", "the unit of p99 is"),
        ("errors>1ms", "the unit of errors is no unit or %$"),
        ("plan<99", "the unit of plan is %$"),
        ("throughput<500", "the unit of throughput is /s$"),
        ("p" * 100_000 + ">1ms", "there is no figure 'ppp"),
    ],
)
def test_what_is_no_condition(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=error) as caught:
        parse_condition(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_what_is_broken_is_said(text: str, said: str) -> None:
    assert broken([parse_condition(text)], [mixed()]) == ([f"{said} (100/s)"] if said else [])


def test_a_limit_is_compared_to_the_nanosecond() -> None:
    """5.1 - 5 and 0.1 are not the same float."""
    found = summarise(outcome(OpenLoop(1, 1), samples(np.arange(1000), 0.1), 1000.0))
    assert broken([parse_condition("max>100ms"), parse_condition("min<100ms")], [found]) == []
    assert len(broken([parse_condition("max>=100ms"), parse_condition("p99<=0.1s")], [found])) == 2


def test_each_phase_is_asked() -> None:
    summaries = [summarise(each) for each in sweep().outcomes]
    assert broken([parse_condition("p99>10ms"), parse_condition("errors>0")], summaries) == [
        "p99 is 12 ms, which is > 10 ms (phase 5: 16 in flight)",
        "p99 is 20 ms, which is > 10 ms (phase 6: 32 in flight)",
    ]


def test_a_latency_that_does_not_exist_keeps_no_promise() -> None:
    found = broken([parse_condition("p99>20ms"), parse_condition("service.max<1s")], [summarise(failed())])
    assert found == [
        "there is no p99, since no request succeeded, and so it may be > 20 ms (10/s)",
        "there is no service.max, since no request succeeded, and so it may be < 1 s (10/s)",
    ]


def test_nothing_measured_is_a_failure_too() -> None:
    assert broken([parse_condition("errors>0")], []) == ["nothing was measured"]
    assert broken([], []) == []


def test_conditions_see_a_stall_and_an_overload() -> None:
    conditions = [parse_condition("p99>20ms"), parse_condition("service.p99>20ms"), parse_condition("throughput<450/s")]
    assert broken(conditions[:2], [summarise(stalled()), summarise(outcome(ClosedLoop(1), samples([0.0], 0.001)))]) == [
        "p99 is 1,311 ms, which is > 20 ms (phase 1: 100/s)"
    ]
    assert [sentence.split(" is ")[0] for sentence in broken(conditions, [summarise(overloaded())])] == [
        "p99",
        "service.p99",
        "throughput",
    ]
