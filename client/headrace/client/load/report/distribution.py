"""The distribution of durations. Percentiles are exact: each is a measured duration, the one of nearest rank. Pure.

Of a request without an answer, only the time that it has waited is known: its duration is at least that. Counted so,
a percentile is a lower bound. It is called exact if it would be the same had these requests taken forever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain
from typing import NamedTuple

import numpy as np

from headrace.client.load.record.samples import Floats
from headrace.client.load.report.chunked import Chunked
from headrace.client.load.report.ranking import extent, values_at

PERCENTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
"""In thousandths."""
SAME_RATIO = 1.02
"""Durations up to this many times another are the same to the reader."""
NONE: tuple[Floats, ...] = ()
CURVE_POINTS = 190
"""Points of a curve, besides those of the percentiles above."""


BINS = 48
"""Bins of a histogram, at most."""
MIN_BIN_RATIO = 1.005
"""Bins are not narrower than that: half a percent."""


SHORTEST = 1e-6
"""The shortest duration of a histogram, in seconds."""


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


def percentiles(durations: Iterable[Floats], unanswered: Iterable[Floats] = NONE) -> Percentiles | None:
    """The percentiles of durations, and of requests that have waited for an answer so long; None without durations.

    Both are in chunks that can be iterated over repeatedly.
    """
    answered = extent(durations)
    if not answered.count:
        return None
    everything = joined(durations, unanswered)
    whole = extent(everything)
    names = [name for name, share in PERCENTILES.items() if enough(whole.count, share)]
    places = [rank(whole.count, PERCENTILES[name]) - 1 for name in names]
    found = dict(zip(names, values_at(everything, places, whole), strict=True))
    at_least = set[str]()
    if whole.count > answered.count:
        at_least = {"max", "mean"} | {name for name, at in zip(names, places, strict=True) if at >= answered.count}
        known = [(name, at) for name, at in zip(names, places, strict=True) if at < answered.count]
        slowest = values_at(durations, [at for _, at in known], answered)
        at_least |= {name for (name, _), slow in zip(known, slowest, strict=True) if slow > SAME_RATIO * found[name]}
    p50, p90, p95, p99, p99_9 = (found.get(name) for name in PERCENTILES)
    return Percentiles(p50, p90, p95, p99, p99_9, whole.max, whole.mean, whole.min, frozenset(at_least))


def median(durations: Iterable[Floats]) -> float:
    """The median of durations in chunks: the mean of the two in the middle if there are two."""
    whole = extent(durations)
    low, high = values_at(durations, [(whole.count - 1) // 2, whole.count // 2], whole)
    return (low + high) / 2


def joined(*parts: Iterable[Floats]) -> Chunked[Floats]:
    """The chunks of all parts, one part after the other."""
    return Chunked(lambda: chain.from_iterable(parts))


def histogram(durations: Iterable[Floats]) -> list[Bin]:
    """Bins of equal width on a logarithmic axis, from the shortest duration to the longest; empty if there are none.

    Durations of less than a microsecond count as one. They are in chunks that can be iterated over repeatedly.
    """
    known = extent(durations)
    if not known.count:
        return []
    low, high = max(known.min, SHORTEST), max(known.max, SHORTEST)
    bins = min(BINS, max(1, int(np.log(high / low) / np.log(MIN_BIN_RATIO))))
    # Rounding must not leave the longest one outside.
    edges = np.geomspace(low, max(high, low * MIN_BIN_RATIO), bins + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    counts = np.zeros(bins, np.int64)
    for chunk in durations:
        counts += np.histogram(np.maximum(chunk, SHORTEST), edges)[0]
    return [Bin(float(edges[at]), float(edges[at + 1]), count) for at, count in enumerate(counts.tolist())]


def quantiles(durations: Iterable[Floats]) -> list[tuple[float, float]]:
    """The points (p, duration not exceeded by a share p of them), evenly spaced on an axis of 1/(1-p).

    The last point is the maximum. It is placed half a request below 1, as that axis does not reach 1. The durations are
    in chunks that can be iterated over repeatedly.
    """
    whole = extent(durations)
    count = whole.count
    if not count:
        return []
    steps = np.ceil(count - count / np.geomspace(1, count, CURVE_POINTS))
    marks = [rank(count, share) for share in PERCENTILES.values()]
    ranks = np.unique(np.clip(np.concatenate((steps, marks, [count])), 1, count).astype(np.int64))
    shares = np.minimum(ranks / count, 1 - 0.5 / count)
    return list(zip(shares.tolist(), values_at(durations, (ranks - 1).tolist(), whole), strict=True))
