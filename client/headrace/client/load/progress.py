"""How a phase goes while it runs. Pure: `live` shows it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.client.load.plan import seconds_of
from headrace.client.load.report.formats import counted, ms_text, rate_text
from headrace.client.load.run import Phase
from headrace.client.load.samples import Samples

FINEST, COARSEST, STEP = 1e-6, 1e3, 1.02
"""Seconds; durations are counted in classes of 2 %, so that what is shown costs the same however long a run is."""
RECENT = 2.0
"""Seconds over which a rate is taken."""

_EDGES = np.geomspace(FINEST, COARSEST, round(math.log(COARSEST / FINEST) / math.log(STEP)))


@dataclass(slots=True)
class Progress:
    """A phase from its beginning on. Moments are in seconds since its measured part began, so the warm-up has negative
    ones.
    """

    phase: Phase
    answered: int = 0
    errors: int = 0
    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) + 1, np.int64))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    """When how many had been answered."""

    def add(self, samples: Samples, now: float) -> None:
        """These have ended."""
        good = samples.code == 0
        places = np.searchsorted(_EDGES, (samples.ended - samples.intended)[good])
        self._counts += np.bincount(places, minlength=len(self._counts))
        self.answered += samples.count
        self.errors += samples.count - int(np.count_nonzero(good))
        if not self.answered:
            return  # the warm-up is no part of the rate
        self._recent.append((now, self.answered))
        while self._recent[0][0] < now - RECENT:
            self._recent.popleft()

    def done(self, now: float) -> float:
        """The share of the phase that is over, from 0 to 1."""
        phase = self.phase
        seconds = seconds_of(phase)
        if math.isinf(seconds):
            assert phase.count is not None
            return min(self.answered / phase.count, 1.0)
        return min(max((now + phase.warmup) / (seconds + phase.warmup), 0.0), 1.0)

    def left(self, now: float) -> float | None:
        """Seconds until it is over; None where nobody knows."""
        seconds = seconds_of(self.phase)
        if not math.isinf(seconds):
            return max(seconds - now, 0.0)
        assert self.phase.count is not None
        return (self.phase.count - self.answered) / self.rate if self.rate else None

    @property
    def rate(self) -> float:
        """Answers a second, lately."""
        if len(self._recent) < 2:
            return 0.0
        (begin, before), (end, after) = self._recent[0], self._recent[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def percentile(self, share: float) -> float | None:
        """A latency in seconds, to 2 %; None before the first success."""
        total = int(self._counts.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * total)))
        return float(_EDGES[min(at, len(_EDGES) - 1)])

    def text(self, now: float) -> str:
        """`1,200/s  p50 4.12 ms  p99 9.8 ms  0 errors`."""
        if now < 0 and not self.answered:
            return "warming up"
        p50, p99 = ms_text(self.percentile(0.5)), ms_text(self.percentile(0.99))
        return f"{rate_text(self.rate)}  p50 {p50}  p99 {p99} ms  {counted(self.errors, 'error')}"
