"""The distribution of durations. Percentiles are exact: each is a measured duration, the one of nearest rank. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.record.samples import Floats

PERCENTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
"""In thousandths."""
CURVE_POINTS = 190
"""Points of a curve, besides those of the percentiles above."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of durations, in seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    max: float
    mean: float
    min: float


def rank(count: int, thousandths: int) -> int:
    """The nearest rank, counting from 1.

    Computed in integers: 0.999 is not exact as a float, so `numpy.percentile` gives rank 1,000 of 1,000 instead of 999.
    """
    return max(1, -(-count * thousandths // 1000))


def percentiles(durations: Floats) -> Percentiles | None:
    """The percentiles of durations; None if there are none."""
    if not len(durations):
        return None
    ordered = np.sort(durations)
    picked = {name: float(ordered[rank(len(ordered), share) - 1]) for name, share in PERCENTILES.items()}
    # The mean of equal numbers may be the next float above them.
    mean = min(max(float(ordered.mean()), float(ordered[0])), float(ordered[-1]))
    return Percentiles(**picked, max=float(ordered[-1]), mean=mean, min=float(ordered[0]))


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
