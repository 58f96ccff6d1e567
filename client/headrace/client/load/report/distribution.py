"""How durations are spread, exactly: every percentile is a duration that was measured (the nearest rank). Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.samples import Floats

PERCENTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
"""In thousandths."""
POINTS = 190
"""Of a curve, with a few that everybody looks for beside them."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations, in seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    max: float
    mean: float
    min: float


def rank(count: int, thousandths: int) -> int:
    """The nearest rank, from 1. In integers: 0.999 is no float, and `numpy.percentile` makes 1,000 of 999 in 1,000."""
    return max(1, -(-count * thousandths // 1000))


def percentiles(durations: Floats) -> Percentiles | None:
    """None of nothing."""
    if not len(durations):
        return None
    ordered = np.sort(durations)
    picked = {name: float(ordered[rank(len(ordered), share) - 1]) for name, share in PERCENTILES.items()}
    # The mean of numbers that are all the same may be the next float above them.
    mean = min(max(float(ordered.mean()), float(ordered[0])), float(ordered[-1]))
    return Percentiles(**picked, max=float(ordered[-1]), mean=mean, min=float(ordered[0]))


def quantiles(durations: Floats) -> list[tuple[float, float]]:
    """The curve of p (below 1) and the duration that a share p does not exceed, evenly over a 1/(1-p) axis.

    The last point is the maximum. It stands at half a request from 1, since 1 itself has no place on that axis.
    """
    count = len(durations)
    if not count:
        return []
    ordered = np.sort(durations)
    steps = np.ceil(count - count / np.geomspace(1, count, POINTS))
    marks = [rank(count, share) for share in PERCENTILES.values()]
    ranks = np.unique(np.clip(np.concatenate((steps, marks, [count])), 1, count).astype(np.int64))
    shares = np.minimum(ranks / count, 1 - 0.5 / count)
    return list(zip(shares.tolist(), ordered[ranks - 1].tolist(), strict=True))
