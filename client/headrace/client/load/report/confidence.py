"""How sure a figure is, and whether two runs differ by more than chance. Pure.

A run that repeats its loads (`--repeat`) gives a value of each figure for each repetition: their mean has a confidence
interval by Student's t, and two runs are compared by Welch's t test. Without repetitions, a phase is divided into ten
equal parts of its time; those of two runs with the same load are compared pair by pair, so that a ramp is compared with
itself. Parts of one run resemble each other more than two runs do, so that repetitions are the better evidence.

All at a confidence of 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import Floats
from headrace.client.load.report.chunked import Chunked, any_success, latency, successes
from headrace.client.load.report.delays import unanswered
from headrace.client.load.report.distribution import PERCENTILES, least
from headrace.client.load.report.grouping import group_percentiles, group_totals
from headrace.client.load.report.summary import Summary

PARTS = 10
COMPARED_FIGURES = ("throughput", *PERCENTILES, "mean")
"""What is compared. A maximum is one request, and depends on how many there were."""
# The quantile of Student's t at 0.975, for 1 to 30 degrees of freedom.
# fmt: off
T_QUANTILES = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)
# fmt: on
NORMAL_QUANTILE, NORMAL_CORRECTION = 1.95996, 2.41
"""Beyond 30 degrees of freedom, t is this much and the correction divided by the degrees, to three digits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of `count` values; the true one is within `half` of it, with a confidence of 95 %."""

    mean: float
    half: float
    count: int


def t_quantile(degrees: float) -> float:
    """How many standard errors an interval reaches to each side. Fractions of a degree are rounded down."""
    if degrees < 1:
        return math.inf
    whole = int(degrees)
    return T_QUANTILES[whole - 1] if whole <= len(T_QUANTILES) else NORMAL_QUANTILE + NORMAL_CORRECTION / whole


def interval(values: Sequence[float]) -> Interval | None:
    """The confidence interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(float(np.mean(values)), half, len(values))


def differ(first: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether two means differ by more than chance, by Welch's t test; None for fewer than two values."""
    if min(len(first), len(other)) < 2:
        return None
    errors = [float(np.var(values, ddof=1)) / len(values) for values in (first, other)]
    error = sum(errors)
    if not error:
        return bool(np.mean(first) != np.mean(other))
    parts = sum(each**2 / (len(values) - 1) for each, values in zip(errors, (first, other), strict=True))
    return bool(abs(np.mean(first) - np.mean(other)) > t_quantile(error**2 / parts) * math.sqrt(error))


def differ_in_pairs(first: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether the differences of pairs have a mean other than 0; None for fewer than two pairs."""
    found = interval([two - one for one, two in zip(first, other, strict=True)])
    return None if found is None else abs(found.mean) > found.half


def repeated_values(summaries: Sequence[Summary], figure: str) -> list[float] | None:
    """The value of a figure in each repetition; None if it is missing in one."""
    values = [value_of(summary, figure) for summary in summaries]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def value_of(summary: Summary, figure: str) -> float | None:
    """A figure of `COMPARED_FIGURES`, in seconds or per second; None if it is unknown or a lower bound."""
    if figure == "throughput":
        return summary.throughput
    latency = summary.latency
    if latency is None or figure in latency.at_least:
        return None
    value: float | None = getattr(latency, figure)
    return value


def part_values(outcome: Outcome, figure: str) -> list[float] | None:
    """The value of a figure in each part of a phase; None if a part has too few requests for it.

    As in `Summary.latency`, requests without an answer count as at least the time that they waited for one.
    """
    width = outcome.elapsed / PARTS
    if width <= 0 or not any_success(outcome.samples):
        return None
    if figure == "throughput":
        ended = sum(np.bincount(_parts(chunk.ended, width), minlength=PARTS) for chunk in successes(outcome.samples))
        return [count / width for count in np.asarray(ended).tolist()]
    grouped = Chunked(lambda: _latencies(outcome, width))
    totals = group_totals(grouped, PARTS)
    if min(totals.counts) < (PARTS if figure == "mean" else max(PARTS, least(PERCENTILES[figure]))):
        return None
    if figure == "mean":
        return [seconds / count for seconds, count in zip(totals.seconds, totals.counts, strict=True)]
    return list(group_percentiles(grouped, totals, lambda *_: True, PERCENTILES[figure]).values())


def _latencies(outcome: Outcome, width: float) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """The part in which each request was due, and its latency."""
    for chunk in outcome.samples.chunks():
        good = chunk.code == 0
        yield _parts(chunk.intended[good], width), latency(chunk)[good]
    for due, waited in unanswered(outcome):
        yield _parts(due, width), waited


def _parts(
    moments: np.ndarray[tuple[int], np.dtype[np.float64]], width: float
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.clip((moments / width).astype(np.int64), 0, PARTS - 1)
