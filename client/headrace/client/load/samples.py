"""What is known of each request that was sent, in columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int16]

UNKNOWN = math.nan
"""A time that nobody has told."""
NO_ANSWER = -1
"""The code of a request that nobody had answered when the run was over. It has ended then."""


class Times(NamedTuple):
    """Seconds that a server says it took: until all that a request needs was there, until a slot was free, to run."""

    waiting: float = UNKNOWN
    queued: float = UNKNOWN
    running: float = UNKNOWN


UNTOLD = Times()
"""Of a server that tells none, and of a request that has failed."""


class Sample(NamedTuple):
    """A request that was sent. The moments are in seconds since the measured part of its phase began."""

    intended: float
    """When it was due. In a closed loop, which plans nothing, when its turn came."""
    sent: float
    """When it was given to the transport."""
    ended: float
    """When its answer was there, or it had failed."""
    code: int
    """Of gRPC: 0 is a success. Or NO_ANSWER."""
    times: Times


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Columns of as many samples, in no certain order."""

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

    def where(self, mask: npt.NDArray[Any]) -> Samples:
        """Those that a mask or an order picks."""
        return Samples(**{name: getattr(self, name)[mask] for name in COLUMNS})


COLUMNS = tuple(each.name for each in fields(Samples))


def joined(parts: Sequence[Samples]) -> Samples:
    """One after the other."""
    if not parts:
        return EMPTY
    return Samples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})


class Collector:
    """Samples as they come, to be taken in columns."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(self, sample: Sample) -> None:
        intended, sent, ended, code, times = sample
        self._rows.append((intended, sent, ended, code, *times))

    def take(self) -> Samples:
        """All since it was last asked."""
        rows, self._rows = self._rows, []
        if not rows:
            return EMPTY
        return _columns(np.array(rows, np.float64))

    def __len__(self) -> int:
        return len(self._rows)


def _columns(rows: Floats) -> Samples:
    intended, sent, ended, code, waiting, queued, running = rows.T
    return Samples(intended, sent, ended, code.astype(np.int16), waiting, queued, running)


EMPTY = _columns(np.empty((0, 7)))
