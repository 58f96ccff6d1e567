"""The latest figures of a phase that is running. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.client.load.formatting import counted, duration_text, rate_text
from headrace.client.load.planning.phases import Phase
from headrace.client.load.planning.schedule import planned_seconds
from headrace.client.load.record.samples import Samples

MIN_LATENCY_SECONDS, MAX_LATENCY_SECONDS, BUCKET_RATIO = 1e-6, 1e3, 1.02
"""Latencies are counted in buckets 2 % wide, so that the cost does not grow with the length of a run."""
RATE_SECONDS = 2.0
"""The rate shown is the mean over this time."""

_EDGES = np.geomspace(
    MIN_LATENCY_SECONDS,
    MAX_LATENCY_SECONDS,
    round(math.log(MAX_LATENCY_SECONDS / MIN_LATENCY_SECONDS) / math.log(BUCKET_RATIO)),
)


@dataclass(slots=True)
class PhaseProgress:
    """Counts the answers of a phase. Moments are in seconds since its measured part began, negative during warm-up."""

    phase: Phase
    answered: int = 0
    errors: int = 0
    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1, np.int64))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    """Moments, and how many requests had been answered by then."""

    def add(self, samples: Samples, now: float) -> None:
        """Count requests that have ended by now."""
        good = samples.code == 0
        buckets = np.searchsorted(_EDGES, (samples.ended - samples.intended)[good])
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        self.answered += samples.count
        self.errors += samples.count - int(np.count_nonzero(good))
        if not self.answered:
            return  # the warm-up is not part of the rate
        self._recent.append((now, self.answered))
        while self._recent[0][0] < now - RATE_SECONDS:
            self._recent.popleft()

    def fraction_done(self, now: float) -> float:
        """How much of the phase is over, from 0 to 1."""
        phase = self.phase
        seconds = planned_seconds(phase)
        if math.isinf(seconds):
            assert phase.count is not None
            return min(self.answered / phase.count, 1.0)
        return min(max((now + phase.warmup) / (seconds + phase.warmup), 0.0), 1.0)

    def seconds_left(self, now: float) -> float | None:
        """Seconds until the phase is over; None if unknown."""
        seconds = planned_seconds(self.phase)
        if not math.isinf(seconds):
            return max(seconds - now, 0.0)
        assert self.phase.count is not None
        return (self.phase.count - self.answered) / self.rate if self.rate else None

    @property
    def rate(self) -> float:
        """Recent answers per second."""
        if len(self._recent) < 2:
            return 0.0
        (begin, before), (end, after) = self._recent[0], self._recent[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def percentile(self, share: float) -> float | None:
        """A latency in seconds, exact to 2 %; None before the first success."""
        total = int(self._counts.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * total)))
        return float(_EDGES[min(at, len(_EDGES) - 1)])

    def text(self, now: float) -> str:
        """`1,200/s  p50 4.12 ms  p99 1.1 s  0 errors`."""
        if now < 0 and not self.answered:
            return "warming up"
        p50, p99 = ("-" if value is None else duration_text(value) for value in map(self.percentile, (0.5, 0.99)))
        return f"{rate_text(self.rate)}  p50 {p50}  p99 {p99}  {counted(self.errors, 'error')}"
