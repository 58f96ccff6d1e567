"""A phase from its beginning to its end, in stretches of the same length. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.report.distribution import rank
from headrace.client.load.run import Outcome
from headrace.client.load.samples import Floats

BUCKETS = 120
LEAST_SAMPLES = 5
"""In each bucket on the average, since a percentile of one request says little."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of a phase. Times are in seconds, and None where nothing succeeded.

    Requests belong to where they were due; only `throughput` counts those that ended here.
    """

    start: float
    width: float
    count: int
    """Requests that were due here, and sent some time."""
    throughput: float
    """Successes that ended here, per second."""
    p50: float | None
    p99: float | None
    max: float | None
    errors: int
    """Failed, or never answered."""


def over_time(outcome: Outcome, buckets: int = BUCKETS) -> list[Bucket]:
    samples = outcome.samples
    if not samples.count:
        return []
    end = max(outcome.elapsed, float(samples.ended.max()), float(samples.intended.max()))
    number = max(1, min(buckets, samples.count // LEAST_SAMPLES)) if end > 0 else 1
    width = end / number or 1.0
    good = samples.code == 0
    due = _places(samples.intended, width, number)
    ended = np.bincount(_places(samples.ended[good], width, number), minlength=number)
    counts = np.bincount(due, minlength=number)
    errors = np.bincount(due[~good], minlength=number)
    latencies = _split((samples.ended - samples.intended)[good], due[good], number)
    return [
        Bucket(at * width, width, int(counts[at]), int(ended[at]) / width, *_three(latencies[at]), int(errors[at]))
        for at in range(number)
    ]


def _places(moments: Floats, width: float, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.clip((moments / width).astype(np.int64), 0, number - 1)


def _split(values: Floats, places: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> list[Floats]:
    """The values of each place, in order of size."""
    order = np.lexsort((values, places))
    return np.split(values[order], np.searchsorted(places[order], np.arange(1, number)))


def _three(ordered: Floats) -> tuple[float | None, float | None, float | None]:
    if not len(ordered):
        return None, None, None
    p50, p99 = (float(ordered[rank(len(ordered), share) - 1]) for share in (500, 990))
    return p50, p99, float(ordered[-1])
