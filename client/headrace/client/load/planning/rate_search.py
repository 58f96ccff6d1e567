"""Finds the highest rate at which a condition holds, one trial at a time. Pure.

A search doubles the rate until it fails (or lowers it until it holds), and then bisects. A single trial decides only if
it holds with room to spare. A trial that fails, or nearly does, is repeated until two of three agree, so that one stall
does not end a search, and one lucky trial near the limit is not the answer. The rate that is found has held at least
twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.client.load.planning.phases import Arrivals, OpenLoop, Phase

FIRST_RATE = 100.0
"""Requests per second of the first trial, if none is given."""
MIN_RATE, MAX_RATE = 0.1, 1e6
"""A search tries no rate below and none above these."""
PRECISION = 0.05
"""The search ends when the lowest rate that fails is at most this much above the highest that holds."""
CLEAR_PRESSURE = 0.8
"""Up to this share of the limit, a single trial decides."""
DECIDING_TRIALS = 2
"""So many equal trials decide in any case."""
TRIAL_SECONDS, MAX_TRIAL_SECONDS = 5.0, 60.0
"""How long a trial takes at least and at most, if its duration is not given."""
HOPELESS_FALL = 8.0
"""A server that kept up with a rate, and is too slow even at this fraction of it, is too slow at any rate."""
POISSON_MARGIN = 4.0
"""How many standard deviations below its mean the number of Poisson arrivals may be."""
MAX_TRIALS = 40
"""A search ends after this many trials, whatever they say. It rarely needs 20."""


class TrialSamples(NamedTuple):
    """How many requests of a trial it takes to know its figure at all, and to judge it well."""

    least: int
    enough: int


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How each trial runs: for `duration` seconds, or for as long as it takes to send enough requests."""

    first: float
    """The rate to begin with."""
    arrivals: Arrivals
    warmup: float
    duration: float | None
    samples: TrialSamples

    @property
    def lowest(self) -> float:
        """No lower rate is tried: a trial would have too few requests to know the figure."""
        least = self.samples.least
        if self.arrivals == "poisson":
            least += math.ceil(POISSON_MARGIN * math.sqrt(least))
        return max(least / (self.duration or MAX_TRIAL_SECONDS), MIN_RATE)

    def phase(self, rate: float) -> Phase:
        """A trial of this rate."""
        seconds = self.duration or min(max(TRIAL_SECONDS, self.samples.enough / rate), MAX_TRIAL_SECONDS)
        return Phase(OpenLoop(rate, rate, self.arrivals), self.warmup, seconds)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying a rate. `pressure` is the measured figure divided by its limit; it may be infinite.

    `kept_up`: the server answered at this rate, however slowly, so that no backlog grew.
    """

    rate: float
    holds: bool
    pressure: float
    kept_up: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """The highest rate that holds and the lowest one that fails; None if there is none."""

    holds: float | None
    fails: float | None


def next_rate(first: float, trials: Sequence[Trial], lowest: float = MIN_RATE) -> float | None:
    """The rate to try after these trials; None if the search is over. `first` is the rate to begin with."""
    if not trials:
        return min(max(first, lowest), MAX_RATE)
    if len(trials) >= MAX_TRIALS:
        return None
    last = trials[-1].rate
    if verdict(trials, last) is None:
        return last
    bounds = bounds_of(trials)
    if bounds.fails is None:
        return _unless_tried(last, min(2 * (bounds.holds or last), MAX_RATE)) or _to_confirm(trials, bounds.holds)
    if bounds.holds is None:
        kept_up = [trial.rate for trial in trials if trial.kept_up]
        if kept_up and max(kept_up) >= HOPELESS_FALL * min(kept_up):
            return None
        # Ever larger steps: each failure costs two trials, and an overloaded server takes long to answer.
        return _unless_tried(last, max(bounds.fails / 2 ** len({trial.rate for trial in trials}), lowest))
    middle = _rounded(math.sqrt(bounds.holds * bounds.fails))
    if bounds.fails > (1 + PRECISION) * bounds.holds and bounds.holds < middle < bounds.fails:
        return middle
    return _to_confirm(trials, bounds.holds)


def bounds_of(trials: Sequence[Trial]) -> Bounds:
    """What the trials say so far. A rate above one that fails does not count as one that holds."""
    verdicts = {trial.rate: verdict(trials, trial.rate) for trial in trials}
    fails = min((rate for rate, holds in verdicts.items() if holds is False), default=None)
    below = (rate for rate, holds in verdicts.items() if holds and (fails is None or rate < fails))
    return Bounds(max(below, default=None), fails)


def verdict(trials: Sequence[Trial], rate: float) -> bool | None:
    """Whether a rate holds; None if its trials do not decide that yet."""
    own = [trial for trial in trials if trial.rate == rate]
    held = sum(trial.holds for trial in own)
    if held >= DECIDING_TRIALS or len(own) - held >= DECIDING_TRIALS:
        return held >= DECIDING_TRIALS
    if len(own) == 1 and held and own[0].pressure <= CLEAR_PRESSURE:
        return True
    return None


def _to_confirm(trials: Sequence[Trial], rate: float | None) -> float | None:
    """The rate that was found, if only a single trial speaks for it."""
    return rate if sum(trial.rate == rate for trial in trials) < DECIDING_TRIALS else None


def _unless_tried(last: float, rate: float) -> float | None:
    return rate if rate != last else None


def _rounded(rate: float) -> float:
    """Three digits: more would only look precise."""
    return float(f"{rate:.3g}")
