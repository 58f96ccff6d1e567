"""A search for the highest rate at which a condition holds: what each phase says, and the rate that is found. Pure.

How the rates are chosen: `planning/rate_search.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.client.load.formatting import duration_text, rate_text, share_text
from headrace.client.load.planning.phases import OpenLoop, Phase
from headrace.client.load.planning.rate_search import (
    DECIDING_TRIALS,
    Bounds,
    SearchPlan,
    Trial,
    TrialSamples,
    bounds_of,
    next_rate,
    verdict,
)
from headrace.client.load.record.run import Outcome, Run
from headrace.client.load.report.chunked import any_success, latencies, service_times
from headrace.client.load.report.conditions import OPERATORS, SERVICE, Condition, parse_condition
from headrace.client.load.report.distribution import PERCENTILES, enough, least, rank
from headrace.client.load.report.ranking import extent, values_at
from headrace.client.load.report.summary import Summary, summarise
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

SEARCHED = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
SEARCH_EXAMPLES = "p99<20ms, p99.9<1s"
ANSWERED_PERCENT = 99.0
"""A rate of which less is answered successfully does not hold, whatever the durations."""
GROWN_SHARE = 0.1
"""If latency has grown during a trial, and to more than this share of the limit, it would go on to exceed it."""
ENOUGH_RATIO = 3
"""A trial has so many times the requests without which its figure is unknown, if its duration is not given."""
MIN_ENOUGH, ENOUGH_FOR_OTHERS = 30, 300
"""Requests in a trial, at least, and for a maximum or a mean."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial, its figure in seconds (infinite if too few requests succeeded to know it), and why it fails."""

    trial: Trial
    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class TriedRate:
    """A rate with what its trials say, in the order in which they ran. `holds` is None if they do not decide."""

    rate: float
    judged: tuple[Judged, ...]
    outcomes: tuple[Outcome, ...]
    summaries: tuple[Summary, ...]
    holds: bool | None

    @property
    def value(self) -> float:
        """The figure in the middle one of its trials."""
        return self.judged[self._middle].value

    @property
    def reason(self) -> str:
        """Why it fails, in the middle one of its trials; empty if it holds."""
        return "" if self.holds else self.judged[self._middle].reason

    @property
    def middle(self) -> Summary:
        """The middle one of its trials, by the figure."""
        return self.summaries[self._middle]

    @property
    def middle_outcome(self) -> Outcome:
        return self.outcomes[self._middle]

    @property
    def _middle(self) -> int:
        """Of two, the worse one."""
        order = sorted(range(len(self.judged)), key=lambda at: (self.judged[at].trial.holds, -self.judged[at].value))
        return order[(len(order) - 1) // 2]


@dataclass(frozen=True, slots=True)
class FoundRate:
    """The result of a search, with the rates that it tried in ascending order."""

    condition: Condition
    bounds: Bounds
    judged: tuple[Judged, ...]
    """All trials in the order in which they ran."""
    tried: tuple[TriedRate, ...]

    @property
    def sentence(self) -> str:
        """`p99 < 20 ms holds up to 420/s and fails at 437/s`."""
        what, bounds = f"{self.condition.figure} {self.condition}", self.bounds
        if bounds.holds is None and bounds.fails is None:
            return f"{what}: the search ended before it was known for any rate"
        if bounds.holds is None:
            return f"{what} does not hold even at {rate_text(bounds.fails or 0.0)}"
        if bounds.fails is None:
            return f"{what} holds up to {rate_text(bounds.holds)}, the highest rate that was tried"
        return f"{what} holds up to {rate_text(bounds.holds)} and fails at {rate_text(bounds.fails)}"

    @property
    def best(self) -> TriedRate | None:
        """The highest rate that holds; None if there is none."""
        return next((each for each in self.tried if each.rate == self.bounds.holds), None)

    @property
    def at_the_limit(self) -> list[TriedRate]:
        """The rates on both sides of the limit."""
        return [each for each in self.tried if each.rate in (self.bounds.holds, self.bounds.fails)]


class RateSearch:
    """Chooses the phases of a search by the outcomes of those before."""

    def __init__(self, condition: Condition, plan: SearchPlan) -> None:
        self.condition = condition
        self._plan = plan
        self._trials: list[Trial] = []

    def next_phase(self, outcomes: Sequence[Outcome]) -> Phase | None:
        """The next trial; None if the search is over."""
        self._trials += (judge(self.condition, outcome).trial for outcome in outcomes[len(self._trials) :])
        last = outcomes[-DECIDING_TRIALS:]
        if len(last) == DECIDING_TRIALS and not any(any_success(outcome.samples) for outcome in last):
            return None  # whatever the rate is, there is nothing to measure
        rate = next_rate(self._plan.first, self._trials, self._plan.lowest)
        return None if rate is None else self._plan.phase(rate)

    def __repr__(self) -> str:
        return f"<RateSearch {self.condition.text}: {len(self._trials)} trials>"


def parse_search(text: str) -> Condition:
    """Parse the condition of a search, an upper limit of a duration. Raises UsageError."""
    condition = parse_condition(text, "--search", SEARCH_EXAMPLES)
    if condition.figure.removeprefix(SERVICE) not in SEARCHED or not condition.operator.startswith("<"):
        raise UsageError(f"--search {quote(text)} is not an upper limit of a duration; examples: {SEARCH_EXAMPLES}")
    if not condition.limit:
        raise UsageError(f"--search {quote(text)}: the limit must be more than 0")
    return condition


def trial_samples(condition: Condition) -> TrialSamples:
    """How many requests a trial needs for this figure."""
    thousandths = PERCENTILES.get(_field(condition.figure))
    if thousandths is None:
        return TrialSamples(1, ENOUGH_FOR_OTHERS)
    needed = least(thousandths)
    return TrialSamples(needed, max(ENOUGH_RATIO * needed, MIN_ENOUGH))


def judge(condition: Condition, outcome: Outcome) -> Judged:
    """Whether a condition held in a phase. Requests that failed or were never sent count as infinitely slow."""
    load, limit = outcome.phase.load, condition.seconds
    assert isinstance(load, OpenLoop)
    assert limit is not None
    value = _value(condition.figure, outcome)
    summary = summarise(outcome)
    answered = 100 * summary.ok / (outcome.planned or 1)
    growth = summary.growth
    grew = growth is not None and growth.grew and growth.last > GROWN_SHARE * limit
    reason = ""
    if answered < ANSWERED_PERCENT:
        reason = f"{share_text(answered)} % answered"
    elif not OPERATORS[condition.operator](value, limit):
        reason = _why_not(condition, value, outcome)
    elif growth is not None and grew:
        reason = f"latency grew to {duration_text(growth.last)}"
    return Judged(Trial(load.last, not reason, value / limit, answered >= ANSWERED_PERCENT and not grew), value, reason)


def found_rate(run: Run) -> FoundRate | None:
    """The result of the search that a run was; None if it was none."""
    if run.settings.search is None:
        return None
    condition = parse_search(run.settings.search)
    complete = [each for each in run.outcomes if isinstance(each.phase.load, OpenLoop) and not each.interrupted]
    judged = [judge(condition, outcome) for outcome in complete]
    trials = [each.trial for each in judged]
    tried = []
    for rate in sorted({trial.rate for trial in trials}):
        own = [at for at, trial in enumerate(trials) if trial.rate == rate]
        outcomes = tuple(complete[at] for at in own)
        summaries = tuple(map(summarise, outcomes))
        tried.append(TriedRate(rate, tuple(judged[at] for at in own), outcomes, summaries, verdict(trials, rate)))
    return FoundRate(condition, bounds_of(trials), tuple(judged), tuple(tried))


def found_only(run: Run) -> Run:
    """A search as a run of its best rate alone, to compare it with others; any other run unchanged."""
    found = found_rate(run)
    if found is None:
        return run
    return replace(run, outcomes=[] if found.best is None else [found.best.middle_outcome])


def _value(figure: str, outcome: Outcome) -> float:
    """Infinite if it is unknown: there are too few requests, or too many without success."""
    samples, name = outcome.samples, _field(figure)
    durations = service_times(samples) if figure.startswith(SERVICE) else latencies(samples)
    answered, count = extent(durations), samples.count + outcome.unsent
    if not count or not enough(count, PERCENTILES.get(name, 0)):
        return math.inf
    if name == "mean":
        return answered.mean if answered.count == count else math.inf
    at = count if name == "max" else rank(count, PERCENTILES[name])
    return values_at(durations, [at - 1], answered)[0] if at <= answered.count else math.inf


def _why_not(condition: Condition, value: float, outcome: Outcome) -> str:
    if math.isfinite(value):
        return f"{condition.figure} {duration_text(value)}"
    thousandths = PERCENTILES.get(_field(condition.figure), 0)
    return "too many failed" if enough(outcome.planned, thousandths) else f"too few requests for {condition.figure}"


def _field(figure: str) -> str:
    """`p99_9` of `service.p99.9`."""
    return figure.removeprefix(SERVICE).replace(".", "_")
