"""What is known about each request that was sent, in columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int16]

UNKNOWN_TIME = math.nan
NO_ANSWER = -1
"""The code of a request that had no answer when the run ended; it counts as ended at that moment."""


class ServerTimes(NamedTuple):
    """Seconds a request spent in the server: waiting for what it refers to, queued for a slot, and running."""

    waiting: float = UNKNOWN_TIME
    queued: float = UNKNOWN_TIME
    running: float = UNKNOWN_TIME


UNKNOWN_TIMES = ServerTimes()
"""The times of a request that failed, or of a server that does not report them."""


class Sample(NamedTuple):
    """A request that was sent. Moments are in seconds since the measured part of its phase began."""

    intended: float
    """When it was due; in a closed loop, which has no plan, when its turn came."""
    sent: float
    """When it was handed to the transport."""
    ended: float
    """When its answer arrived, or it failed."""
    code: int
    """A gRPC status code, of which 0 is success, or NO_ANSWER."""
    times: ServerTimes


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Columns of equal length, one row per request, in no particular order."""

    intended: Floats
    sent: Floats
    ended: Floats
    code: Integers
    waiting: Floats
    queued: Floats
    running: Floats

    @property
    def count(self) -> int:
        return len(self.intended)

    def select(self, rows: npt.NDArray[Any]) -> Samples:
        """The rows that a boolean mask or an array of indices selects."""
        return Samples(**{name: getattr(self, name)[rows] for name in COLUMNS})


COLUMNS = tuple(each.name for each in fields(Samples))


def concatenated(parts: Sequence[Samples]) -> Samples:
    """The rows of all parts, one part after the other."""
    if not parts:
        return NO_SAMPLES
    return Samples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})


class SampleCollector:
    """Collects samples one at a time and hands them out as columns."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(self, sample: Sample) -> None:
        intended, sent, ended, code, times = sample
        self._rows.append((intended, sent, ended, code, *times))

    def take(self) -> Samples:
        """The samples added since the last call."""
        rows, self._rows = self._rows, []
        if not rows:
            return NO_SAMPLES
        return _columns(np.array(rows, np.float64))

    def __len__(self) -> int:
        return len(self._rows)


def _columns(rows: Floats) -> Samples:
    intended, sent, ended, code, waiting, queued, running = rows.T
    return Samples(intended, sent, ended, code.astype(np.int16), waiting, queued, running)


NO_SAMPLES = _columns(np.empty((0, 7)))
