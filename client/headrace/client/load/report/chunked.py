"""What is computed of requests chunk by chunk, so that a long run is never in memory as a whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from headrace.client.load.record.samples import Floats, Samples
from headrace.client.load.report.ranking import float_keys, ranked, to_float
from headrace.client.load.report.rounding import rounded

Chunk = TypeVar("Chunk")
Other = TypeVar("Other")


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


def latency(samples: Samples) -> Floats:
    """From when each request was due to its end."""
    return rounded(samples.ended - samples.intended)


def service_time(samples: Samples) -> Floats:
    """From when each request was sent to its end."""
    return rounded(samples.ended - samples.sent)


def largest(samples: Samples, column: str) -> float:
    """The largest known value of a column, and at least 0."""
    found = 0.0
    for chunk in samples.chunks():
        found = max(found, float(np.fmax.reduce(getattr(chunk, column), initial=0.0)))
    return found


def split_at(
    rows: Chunked[Samples], order: Callable[[Samples], Floats], count: int, at: int
) -> tuple[Chunked[Samples], Chunked[Samples]]:
    """The first `at` of `count` rows in ascending order, and the others. Equal rows are in the order they come in."""
    if not 0 < at < count:
        none = Chunked[Samples](lambda: iter(()))
        return (none, rows) if at <= 0 else (rows, none)
    (found,) = ranked(rows.map(lambda chunk: float_keys(order(chunk))), [at], count)
    limit, equal_before = to_float(found.key), at - found.below

    def part(*, first: bool) -> Iterator[Samples]:
        passed = 0
        for chunk in rows:
            values = order(chunk)
            equal = values == limit
            earlier = (values < limit) | (equal & (passed + np.cumsum(equal) <= equal_before))
            passed += int(np.count_nonzero(equal))
            yield chunk.select(earlier if first else ~earlier)

    return Chunked(lambda: part(first=True)), Chunked(lambda: part(first=False))
