"""What a trial of a rate says, and the rate that a run has found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.client.load.planning.options import choose_search
from headrace.client.load.planning.phases import Arrivals, OpenLoop
from headrace.client.load.planning.rate_search import PRECISION, Bounds, SearchPlan, TrialSamples
from headrace.client.load.planning.schedule import WHOLE, due_between
from headrace.client.load.record.run import Outcome
from headrace.client.load.report.differences import comparison_rows
from headrace.client.load.report.rate_search import Judged, RateSearch, found_rate, judge, parse_search, trial_samples
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.synthetic_runs import outcome, overloaded, run, samples, searched, stalled, steady

CAPACITY = 400.0


def thousand(latency: float = 0.004, slow: int = 0, failed: int = 0, unsent: int = 0) -> Outcome:
    """1,000 planned requests, of which some took 1 s, failed, or were not sent; where they are makes no difference."""
    count = 1000 - unsent
    latencies = np.full(count, latency)
    latencies[:slow] = 1.0
    codes = np.zeros(count)
    codes[slow : slow + failed] = 14
    measured = samples(np.arange(count) / 100, latencies, code=codes)
    return outcome(OpenLoop(100, 100), measured, planned=1000, unsent=unsent)


def judged(text: str, measured: Outcome) -> Judged:
    return judge(parse_search(text), measured)


@pytest.mark.parametrize(
    ("text", "measured", "holds"),
    [
        ("p99<5ms", thousand(), True),
        ("p99<4ms", thousand(), False),
        ("p99<=4ms", thousand(), True),
        ("p99<5ms", thousand(slow=10), True),
        ("p99<5ms", thousand(slow=11), False),
        ("p99<5ms", thousand(failed=10), True),
        ("p99<5ms", thousand(slow=5, failed=6), False),
        ("p99<5ms", thousand(slow=5, unsent=6), False),
        ("p50<5ms", thousand(failed=11), False),
        ("p50<5ms", thousand(unsent=11), False),
        ("p99.9<5ms", thousand(failed=1), True),
        ("p99.9<5ms", thousand(failed=2), False),
        ("max<5ms", thousand(failed=1), False),
        ("mean<5ms", thousand(), True),
        ("mean<5ms", thousand(failed=1), False),
    ],
)
def test_failed_and_unsent_requests_count_as_infinitely_slow(text: str, measured: Outcome, holds: bool) -> None:
    found = judged(text, measured)
    assert found.trial.holds is holds
    assert bool(found.reason) is not holds
    assert found.trial.rate == 100


def test_a_trial_says_why_it_fails() -> None:
    assert judged("p99<5ms", thousand(slow=11)).reason == "p99 1 s"
    assert judged("p50<5ms", thousand(failed=11)).reason == "98.9 % answered"
    assert judged("max<5ms", thousand(failed=1)).reason == "too many failed"


def test_latency_that_grows_fails_before_it_has_reached_the_limit() -> None:
    """3 % too much for ten seconds: no request has waited for a second yet, but the next ones would."""
    measured = samples(np.arange(1000) / 100, 0.001 + 0.03 * np.arange(1000) / 100)
    found = judged("p99<1s", outcome(OpenLoop(100, 100), measured))
    assert not found.trial.holds
    assert not found.trial.kept_up
    assert found.reason == "latency grew to 271 ms"
    assert judged("p99<10s", outcome(OpenLoop(100, 100), measured)).trial.holds


def test_a_service_time_counts_from_when_a_request_was_sent() -> None:
    assert judged("service.p90<5ms", stalled()).trial.holds
    assert not judged("p90<5ms", stalled()).trial.holds


def test_nothing_planned_does_not_hold() -> None:
    nothing = outcome(OpenLoop(100, 100), samples([], []))
    assert judged("p99<5ms", nothing) == Judged(judged("p99<5ms", nothing).trial, math.inf, "0 % answered")


@pytest.mark.parametrize(("condition", "slow"), [("p99<20ms", -math.log(0.01)), ("p50<5ms", math.log(2))])
def test_a_search_finds_the_rate_of_a_queue(condition: str, slow: float) -> None:
    """Of a queue whose time between arrivals is exponential too, the time in it would be exponential with this rate."""
    found = found_rate(searched(condition, CAPACITY))
    assert found is not None
    assert found.bounds.holds is not None
    assert found.bounds.fails is not None
    limit = found.condition.seconds
    assert limit is not None
    poisson = CAPACITY - slow / limit
    # Arrivals at equal distances wait less, but no rate above the capacity holds.
    assert poisson * 0.9 < found.bounds.holds < CAPACITY
    assert found.bounds.fails < found.bounds.holds * (1 + PRECISION + 0.006)
    assert found.best is not None
    assert found.best.value < limit
    assert [each.rate for each in found.at_the_limit] == [found.bounds.holds, found.bounds.fails]
    assert len(found.judged) == sum(len(each.judged) for each in found.tried)


def test_an_interrupted_trial_says_nothing() -> None:
    measured = searched()
    measured.outcomes[-1].interrupted = True
    complete = found_rate(run(*measured.outcomes[:-1], search="p99<20ms"))
    found = found_rate(measured)
    assert found is not None
    assert complete is not None
    assert found.bounds == complete.bounds
    assert found.sentence == complete.sentence


def test_a_run_that_is_no_search_has_found_nothing() -> None:
    assert found_rate(run(steady())) is None


def test_a_search_that_never_holds_or_never_fails_says_so() -> None:
    never = found_rate(run(overloaded(), overloaded(), search="p99<20ms"))
    always = found_rate(run(steady(), steady(), search="p99<20ms"))
    undecided = found_rate(run(overloaded(), search="p99<20ms"))
    assert never is not None
    assert always is not None
    assert undecided is not None
    assert never.bounds == Bounds(None, 500)
    assert never.best is None
    assert never.sentence == "p99 < 20 ms does not hold even at 500/s"
    assert always.sentence == "p99 < 20 ms holds up to 200/s, the highest rate that was tried"
    assert undecided.sentence == "p99 < 20 ms: the search ended before it was known for any rate"


def test_a_search_is_compared_by_the_rate_it_found() -> None:
    (row,) = comparison_rows([searched(), run(steady())])
    assert row.load == "283/s and 200/s"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("p99", "is not a condition; examples: p99<20ms, p99.9<1s$"),
        ("p99>20ms", "is not an upper limit of a duration"),
        ("errors<1%", "is not an upper limit of a duration"),
        ("min<1ms", "is not an upper limit of a duration"),
        ("p99<0ms", "the limit must be more than 0$"),
        ("p42<1ms", "unknown figure 'p42'"),
    ],
)
def test_a_search_needs_an_upper_limit_of_a_duration(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        parse_search(text)
    assert str(error.value).startswith("--search ")


def test_a_rarer_figure_needs_more_requests() -> None:
    needed = [trial_samples(parse_search(f"{name}<1ms")) for name in ("p50", "p95", "p99", "service.p99.9", "max")]
    assert needed == [(2, 30), (20, 60), (100, 300), (1000, 3000), (1, 300)]


def test_a_percentile_of_too_few_requests_does_not_hold() -> None:
    few = outcome(OpenLoop(10, 10), samples(np.arange(99) / 10, 0.004))
    assert judged("p99<5ms", few) == Judged(judged("p99<5ms", few).trial, math.inf, "too few requests for p99")
    assert not judged("p99<5ms", few).trial.holds
    assert judged("p95<5ms", few).trial.holds


def test_a_search_ends_where_no_request_succeeds() -> None:
    plan = SearchPlan(100, "uniform", 0.0, 1.0, TrialSamples(2, 30))
    rates = RateSearch(parse_search("p50<5ms"), plan)
    nothing = thousand(failed=1000)
    assert rates.next_phase([]) == plan.phase(100)
    assert rates.next_phase([nothing]) == plan.phase(100)
    assert rates.next_phase([nothing, nothing]) is None


@pytest.mark.parametrize("arrivals", ["uniform", "poisson"])
def test_every_trial_of_a_search_has_enough_requests_to_know_its_figure(arrivals: Arrivals) -> None:
    """However slow the server is."""
    condition = parse_search("p99<5ms")
    plan = choose_search(None, arrivals, None, None, 0.0, 2.0, None, 1, trial_samples(condition))
    rates, outcomes = RateSearch(condition, plan), list[Outcome]()
    while (phase := rates.next_phase(outcomes)) is not None:
        due = np.concatenate(list(due_between(phase, len(outcomes), WHOLE, 0.0, 2.0)))
        outcomes.append(outcome(phase.load, samples(due, 0.1)))
    assert min(len(each.samples.intended) for each in outcomes) >= 100
    assert {judge(condition, each).reason for each in outcomes} == {"p99 100 ms"}
