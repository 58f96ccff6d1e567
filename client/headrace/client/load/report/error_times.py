"""When requests failed, by code. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from headrace.client.load.record.run import Outcome
from headrace.client.load.report.chunked import largest

PARTS = 20
"""A phase is divided into so many parts of equal length, in each of which errors are counted."""


class ErrorTimes(NamedTuple):
    """When the requests were due that ended with one code, in seconds."""

    first: float
    last: float
    counts: tuple[int, ...]
    """How many were due in each of the parts of the phase."""


NEVER = ErrorTimes(math.inf, -math.inf, (0,) * PARTS)


def error_times(outcome: Outcome) -> dict[int, ErrorTimes]:
    """By code, without the requests that had no answer."""
    found: dict[int, ErrorTimes] = {}
    seconds = None
    for chunk in outcome.samples.chunks():
        for code in np.unique(chunk.code[chunk.code > 0]).tolist():
            seconds = part_seconds(outcome) if seconds is None else seconds
            due = chunk.intended[chunk.code == code]
            counts = np.bincount(np.clip((due / seconds).astype(int), 0, PARTS - 1), minlength=PARTS).tolist()
            before = found.get(code, NEVER)
            together = tuple(map(sum, zip(before.counts, counts, strict=True)))
            found[code] = ErrorTimes(min(before.first, float(due.min())), max(before.last, float(due.max())), together)
    return dict(sorted(found.items()))


def part_seconds(outcome: Outcome) -> float:
    """The length of a part of the phase."""
    end = max(outcome.elapsed, largest(outcome.samples, "intended"))
    return (end or 1.0) / PARTS
