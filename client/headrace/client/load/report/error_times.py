"""When requests failed, by code. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.client.load.record.run import Outcome

PARTS = 20
"""A phase is divided into so many parts of equal length, in each of which errors are counted."""


class ErrorTimes(NamedTuple):
    """When the requests were due that ended with one code, in seconds."""

    first: float
    last: float
    counts: tuple[int, ...]
    """How many were due in each of the parts of the phase."""


def error_times(outcome: Outcome) -> dict[int, ErrorTimes]:
    """By code, without the requests that had no answer."""
    samples = outcome.samples
    found = {}
    for code in np.unique(samples.code[samples.code > 0]).tolist():
        due = samples.intended[samples.code == code]
        counts = np.bincount(np.clip((due / part_seconds(outcome)).astype(int), 0, PARTS - 1), minlength=PARTS)
        found[code] = ErrorTimes(float(due.min()), float(due.max()), tuple(counts.tolist()))
    return found


def part_seconds(outcome: Outcome) -> float:
    """The length of a part of the phase."""
    end = max(outcome.elapsed, float(outcome.samples.intended.max(initial=0.0)))
    return (end or 1.0) / PARTS
