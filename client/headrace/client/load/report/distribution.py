"""The distribution of durations. Percentiles are exact: each is a measured duration, the one of nearest rank. Pure.

Of a request without an answer, only the time that it has waited is known: its duration is at least that. Counted so,
a percentile is a lower bound. It is called exact if it would be the same had these requests taken forever.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from headrace.client.load.record.samples import Floats

PERCENTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
"""In thousandths."""
SAME_RATIO = 1.02
"""Durations up to this many times another are the same to the reader."""
NONE: Floats = np.empty(0)
CURVE_POINTS = 190
"""Points of a curve, besides those of the percentiles above."""


BINS = 48
"""Bins of a histogram, at most."""
MIN_BIN_RATIO = 1.005
"""Bins are not narrower than that: half a percent."""


class Bin(NamedTuple):
    """How many durations are from `low` on and below `high`, in seconds; the last one includes `high`."""

    low: float
    high: float
    requests: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of durations, in seconds; None for one that needs more durations, as p99 needs a hundred."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float
    mean: float
    min: float
    at_least: frozenset[str] = frozenset()
    """The names of those that are lower bounds, because of requests without an answer."""


FIGURES = tuple(field.name for field in fields(Percentiles) if field.name != "at_least")


def rank(count: int, thousandths: int) -> int:
    """The nearest rank, counting from 1.

    Computed in integers: 0.999 is not exact as a float, so `numpy.percentile` gives rank 1,000 of 1,000 instead of 999.
    """
    return max(1, -(-count * thousandths // 1000))


def enough(count: int, thousandths: int) -> bool:
    """Whether a percentile of so many durations is not just the largest one."""
    return count >= least(thousandths)


def least(thousandths: int) -> int:
    """How many durations a percentile needs."""
    return -(-1000 // (1000 - thousandths))


def percentiles(durations: Floats, unanswered: Floats = NONE) -> Percentiles | None:
    """The percentiles of durations, and of requests that have waited for an answer so long; None without durations."""
    if not len(durations):
        return None
    ordered = np.sort(np.concatenate((durations, unanswered)))
    slowest = np.sort(durations)
    picked: dict[str, float | None] = dict.fromkeys(PERCENTILES)
    at_least = {"max", "mean"} if len(unanswered) else set[str]()
    for name, share in PERCENTILES.items():
        if enough(len(ordered), share):
            at = rank(len(ordered), share) - 1
            picked[name] = float(ordered[at])
            if at >= len(slowest) or slowest[at] > SAME_RATIO * ordered[at]:
                at_least.add(name)
    # The mean of equal numbers may be the next float above them.
    mean = min(max(float(ordered.mean()), float(ordered[0])), float(ordered[-1]))
    p50, p90, p95, p99, p99_9 = picked.values()
    return Percentiles(p50, p90, p95, p99, p99_9, float(ordered[-1]), mean, float(ordered[0]), frozenset(at_least))


def histogram(durations: Floats) -> list[Bin]:
    """Bins of equal width on a logarithmic axis, from the shortest duration to the longest; empty if there are none.

    Durations of less than a microsecond count as one.
    """
    if not len(durations):
        return []
    known = np.maximum(durations, 1e-6)
    low, high = float(known.min()), float(known.max())
    bins = min(BINS, max(1, int(np.log(high / low) / np.log(MIN_BIN_RATIO))))
    # Rounding must not leave the longest one outside.
    edges = np.geomspace(low, max(high, low * MIN_BIN_RATIO), bins + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    counts = np.histogram(known, edges)[0].tolist()
    return [Bin(float(edges[at]), float(edges[at + 1]), count) for at, count in enumerate(counts)]


def quantiles(durations: Floats) -> list[tuple[float, float]]:
    """The points (p, duration not exceeded by a share p of them), evenly spaced on an axis of 1/(1-p).

    The last point is the maximum. It is placed half a request below 1, as that axis does not reach 1.
    """
    count = len(durations)
    if not count:
        return []
    ordered = np.sort(durations)
    steps = np.ceil(count - count / np.geomspace(1, count, CURVE_POINTS))
    marks = [rank(count, share) for share in PERCENTILES.values()]
    ranks = np.unique(np.clip(np.concatenate((steps, marks, [count])), 1, count).astype(np.int64))
    shares = np.minimum(ranks / count, 1 - 0.5 / count)
    return list(zip(shares.tolist(), ordered[ranks - 1].tolist(), strict=True))
