"""What is known about each request that was taken up, in columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.mapped_pages import release

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int16]

CHUNK_SAMPLES = 1 << 16
"""How many samples are worked on at a time, so that a long run is never in memory as a whole."""
UNKNOWN_TIME = math.nan
NEVER_SENT = math.nan
"""The moment of sending of a request that never left this client."""
NO_ANSWER = -1
"""The code of a request that had no answer when the run ended; it counts as ended at that moment."""


class ServerTimes(NamedTuple):
    """Seconds a request spent in the server: waiting for what it refers to, queued for a slot, and running."""

    waiting: float = UNKNOWN_TIME
    queued: float = UNKNOWN_TIME
    running: float = UNKNOWN_TIME


UNKNOWN_TIMES = ServerTimes()
"""The times of a request that failed, or of a server that does not report them."""


class Waits(NamedTuple):
    """Seconds that a request waited in this client, other than for the client to do its own work."""

    window: float = 0.0
    """For room in the window, its own or that of requests ahead of it."""
    connection: float = 0.0
    """For a connection to the server."""
    network: float = 0.0
    """For a connection that took no more data."""
    machine: float = 0.0
    """For a processor of this machine, while others used them."""


NO_WAITS = Waits()


class Sample(NamedTuple):
    """A request that was taken up. Moments are in seconds since the measured part of its phase began."""

    intended: float
    """When it was due; in a closed loop, which has no plan, when its turn came."""
    sent: float
    """When it was handed to the transport; NEVER_SENT if it ended before that."""
    ended: float
    """When its answer arrived, or it failed."""
    code: int
    """A gRPC status code, of which 0 is success, or NO_ANSWER."""
    times: ServerTimes
    waits: Waits = NO_WAITS
    """What it waited for before it was sent. The rest of that time is the client's own."""


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
    window: Floats
    connection: Floats
    network: Floats
    machine: Floats

    @property
    def count(self) -> int:
        return len(self.intended)

    def chunks(self) -> Iterator[Samples]:
        """The rows in order, some at a time. What is read of samples on disk does not stay in memory."""
        columns = [getattr(self, name) for name in COLUMNS]
        for start in range(0, self.count, CHUNK_SAMPLES):
            yield Samples(*(column[start : start + CHUNK_SAMPLES] for column in columns))
            for column in columns:
                release(column)

    def select(self, rows: npt.NDArray[Any]) -> Samples:
        """The rows that a boolean mask or an array of indices selects."""
        # Of a long phase without failures, nothing is copied.
        if rows.dtype == bool and rows.all():
            return self
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
        intended, sent, ended, code, times, waits = sample
        self._rows.append((intended, sent, ended, code, *times, *waits))

    def take(self) -> Samples:
        """The samples added since the last call."""
        rows, self._rows = self._rows, []
        if not rows:
            return NO_SAMPLES
        return _columns(np.array(rows, np.float64))

    def __len__(self) -> int:
        return len(self._rows)


def _columns(rows: Floats) -> Samples:
    intended, sent, ended, code, *others = rows.T
    return Samples(intended, sent, ended, code.astype(np.int16), *others)


NO_SAMPLES = _columns(np.empty((0, len(COLUMNS))))
