"""The course of a phase in buckets of equal length. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import Floats
from headrace.client.load.report.distribution import enough, rank

MAX_BUCKETS = 120
MIN_SAMPLES_PER_BUCKET = 5
"""On average, since a percentile of a single request says little."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of a phase. Times are in seconds, and None if too few requests succeeded.

    Requests are counted where they were due, except for `throughput`, which counts where they ended.
    """

    start: float
    width: float
    count: int
    """Requests that were due here and sent at some time."""
    throughput: float
    """Successes that ended here per second."""
    p50: float | None
    p99: float | None
    max: float | None
    errors: int
    """Requests that failed or were never answered."""
    codes: dict[int, int]
    """How many of them there are of each code."""


def time_buckets(outcome: Outcome, buckets: int = MAX_BUCKETS) -> list[Bucket]:
    """At most this many buckets of equal length; empty if nothing was sent."""
    samples = outcome.samples
    if not samples.count:
        return []
    end = max(outcome.elapsed, float(samples.ended.max()), float(samples.intended.max()))
    number = max(1, min(buckets, samples.count // MIN_SAMPLES_PER_BUCKET)) if end > 0 else 1
    width = end / number or 1.0
    good = samples.code == 0
    due = _bucket_indices(samples.intended, width, number)
    ended = np.bincount(_bucket_indices(samples.ended[good], width, number), minlength=number)
    counts = np.bincount(due, minlength=number)
    errors = np.bincount(due[~good], minlength=number)
    codes: list[dict[int, int]] = [{} for _ in range(number)]
    for code in np.unique(samples.code[~good]).tolist():
        for at in due[samples.code == code].tolist():
            codes[at][code] = codes[at].get(code, 0) + 1
    latencies = _split((samples.ended - samples.intended)[good], due[good], number)
    return [
        Bucket(
            at * width,
            width,
            int(counts[at]),
            int(ended[at]) / width,
            *_percentiles(latencies[at]),
            int(errors[at]),
            codes[at],
        )
        for at in range(number)
    ]


def _bucket_indices(moments: Floats, width: float, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.clip((moments / width).astype(np.int64), 0, number - 1)


def _split(values: Floats, buckets: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> list[Floats]:
    """The values of each bucket in ascending order."""
    order = np.lexsort((values, buckets))
    return np.split(values[order], np.searchsorted(buckets[order], np.arange(1, number)))


def _percentiles(ordered: Floats) -> tuple[float | None, float | None, float | None]:
    if not len(ordered):
        return None, None, None
    p50, p99 = (
        float(ordered[rank(len(ordered), share) - 1]) if enough(len(ordered), share) else None for share in (500, 990)
    )
    return p50, p99, float(ordered[-1])
