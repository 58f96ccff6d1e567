"""What is computed of requests chunk by chunk, so that a long run is never in memory as a whole. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.samples import Floats, Samples
from headrace.client.load.report.ranking import extent, ranked_values, to_float
from headrace.client.load.report.rounding import rounded

Chunk = TypeVar("Chunk")
Other = TypeVar("Other")
Item = TypeVar("Item")

Mask = npt.NDArray[np.bool]


class Chunked(Generic[Chunk]):
    """Chunks that are computed anew whenever they are iterated over."""

    def __init__(self, compute: Callable[[], Iterator[Chunk]]) -> None:
        self._compute = compute

    def __iter__(self) -> Iterator[Chunk]:
        return self._compute()

    def __repr__(self) -> str:
        return f"<Chunked: {self._compute!r}>"

    def map(self, function: Callable[[Chunk], Other]) -> Chunked[Other]:
        """A function of each chunk."""
        return Chunked(lambda: map(function, self))


def successes(samples: Samples) -> Chunked[Samples]:
    """The requests that succeeded."""
    return Chunked(lambda: (chunk.select(chunk.code == 0) for chunk in samples.chunks()))


def any_success(samples: Samples) -> bool:
    """Whether a request succeeded."""
    return any((chunk.code == 0).any() for chunk in samples.chunks())


def latency(samples: Samples) -> Floats:
    """From when each request was due to its end."""
    return rounded(samples.ended - samples.intended)


def latencies(samples: Samples) -> Chunked[Floats]:
    """Of the requests that succeeded."""
    return Chunked(lambda: (latency(chunk)[chunk.code == 0] for chunk in samples.chunks()))


def service_times(samples: Samples) -> Chunked[Floats]:
    """From when each request was sent to its end, of those that succeeded."""
    return Chunked(lambda: (_service_times(chunk) for chunk in samples.chunks()))


def _service_times(chunk: Samples) -> Floats:
    # A record may come from elsewhere, and say that a request succeeded that was never sent.
    good = (chunk.code == 0) & np.isfinite(chunk.sent)
    return rounded(chunk.ended[good] - chunk.sent[good])


def due_times(samples: Samples) -> Chunked[Floats]:
    """When the requests that succeeded were due."""
    return Chunked(lambda: (chunk.intended[chunk.code == 0] for chunk in samples.chunks()))


def largest(samples: Samples, column: str) -> float:
    """The largest known value of a column, and at least 0."""
    found = 0.0
    for chunk in samples.chunks():
        found = max(found, float(np.fmax.reduce(getattr(chunk, column), initial=0.0)))
    return found


def split_at(
    rows: Iterable[Item], order: Iterable[Floats], at: int
) -> tuple[Chunked[tuple[Item, Mask]], Chunked[tuple[Item, Mask]]]:
    """Which rows are the first `at` in ascending order of their values, and which are the others.

    Equal rows are in the order they come in. Rows and values are in chunks that can be iterated over repeatedly.
    """
    whole = extent(order)
    limit, equal_before = -math.inf, 0
    if 0 < at < whole.count:
        (found,) = ranked_values(order, [at], whole)
        limit, equal_before = to_float(found.key), at - found.below
    elif at > 0:
        limit = math.inf

    def part(*, first: bool) -> Iterator[tuple[Item, Mask]]:
        passed = 0
        for row, values in zip(rows, order, strict=True):
            equal = values == limit
            earlier = (values < limit) | (equal & (passed + np.cumsum(equal) <= equal_before))
            passed += int(np.count_nonzero(equal))
            yield row, earlier if first else ~earlier

    return Chunked(lambda: part(first=True)), Chunked(lambda: part(first=False))
