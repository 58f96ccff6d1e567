"""The course of a phase in buckets of equal length. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import Floats, Samples
from headrace.client.load.report.chunked import Chunked, largest, latency
from headrace.client.load.report.distribution import enough
from headrace.client.load.report.grouping import group_percentiles, group_totals

MAX_BUCKETS = 120
LONGEST = 1000
"""Of a thousand thousandths."""
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
    end = max(outcome.elapsed, largest(samples, "ended"), largest(samples, "intended"))
    number = max(1, min(buckets, samples.count // MIN_SAMPLES_PER_BUCKET)) if end > 0 else 1
    width = end / number or 1.0
    counts, ended = np.zeros(number, np.int64), np.zeros(number, np.int64)
    codes: list[Counter[int]] = [Counter() for _ in range(number)]
    for chunk in samples.chunks():
        due = _bucket_indices(chunk.intended, width, number)
        counts += np.bincount(due, minlength=number)
        ended += np.bincount(_bucket_indices(chunk.ended[chunk.code == 0], width, number), minlength=number)
        for code in np.unique(chunk.code[chunk.code != 0]).tolist():
            for at, count in enumerate(np.bincount(due[chunk.code == code], minlength=number).tolist()):
                codes[at][code] += count
    errors = [{code: count for code, count in sorted(each.items()) if count} for each in codes]
    figures = _percentiles(samples, width, number)
    return [
        Bucket(
            at * width,
            width,
            int(counts[at]),
            int(ended[at]) / width,
            *figures[at],
            sum(errors[at].values()),
            errors[at],
        )
        for at in range(number)
    ]


def _bucket_indices(moments: Floats, width: float, number: int) -> npt.NDArray[np.int64]:
    return np.clip((moments / width).astype(np.int64), 0, number - 1)


def _percentiles(samples: Samples, width: float, number: int) -> list[tuple[float | None, float | None, float | None]]:
    """p50, p99 and the maximum of the successes of each bucket; None for what needs more of them."""

    def chunks() -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
        for chunk in samples.chunks():
            good = chunk.code == 0
            yield _bucket_indices(chunk.intended[good], width, number), latency(chunk)[good]

    grouped = Chunked(chunks)
    found = group_percentiles(
        grouped,
        group_totals(grouped, number),
        lambda count, share: share == LONGEST or enough(count, share),
        500,
        990,
        LONGEST,
    )
    return [(found.get((at, 500)), found.get((at, 990)), found.get((at, LONGEST))) for at in range(number)]
