"""When the requests of an open loop are due, and which process sends which. Pure.

The arrivals of a phase are evenly spaced (uniform) or at exponential distances (Poisson) in the *integral* of the rate.
Inverting that integral gives exact due times, for a ramp too. Every process walks the same arrivals and takes its own,
so that together they follow the same plan whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase

CHUNK_ARRIVALS = 4096
"""Arrivals computed at a time."""
COUNT_TOLERANCE = 1e-6
"""0.07 s at 100/s are seven arrivals, although the product is a little more than 7."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the work that process `index` does, out of `processes`."""

    index: int
    processes: int


WHOLE = Share(0, 1)


def planned_seconds(phase: Phase) -> float:
    """How long the measured part is planned to take; infinite for a closed loop with a count, which has no plan."""
    if phase.count is None:
        if phase.duration is None:
            raise ValueError("a phase needs a duration or a count")
        return phase.duration
    return math.inf if isinstance(phase.load, ClosedLoop) else phase.count / _mean_rate(phase.load)


def due_times(phase: Phase, seed: int, share: Share = WHOLE) -> Iterator[float]:
    """When this process sends its requests: ascending, in seconds.

    Times are negative during the warm-up, which runs at the first rate.
    """
    rate = _open_loop(phase).first
    for arrivals in _own(_warmup_arrivals(phase, seed), share):
        yield from (arrivals / rate).tolist()
    for times in _measured_times(phase, seed, share):
        yield from times.tolist()


def planned_count(phase: Phase, seed: int, share: Share = WHOLE, until: float = math.inf) -> int:
    """How many requests of the measured part are due at `until` or before."""
    count = 0
    for times in _measured_times(phase, seed, share):
        count += int(np.count_nonzero(times <= until))
        if times.size and times[-1] > until:
            break
    return count


def due_between(phase: Phase, seed: int, share: Share, first: float, last: float) -> Iterator[Floats]:
    """The due times of the measured part from `first` to `last`, of this process, some at a time."""
    for times in _measured_times(phase, seed, share):
        yield times[(times >= first) & (times <= last)]
        if times.size and times[-1] > last:
            break


def split_evenly(total: int, share: Share) -> int:
    """This process's part of `total`; 0 for some processes when there are more of them than `total`."""
    return total // share.processes + (share.index < total % share.processes)


def split_count(count: int, concurrency: int, share: Share) -> int:
    """How many of `count` requests of a closed loop this process sends; a process without concurrency sends none."""
    busy = min(concurrency, share.processes)
    return split_evenly(count, Share(share.index, busy)) if share.index < busy else 0


def _open_loop(phase: Phase) -> OpenLoop:
    if not isinstance(phase.load, OpenLoop):
        raise TypeError("only an open loop has a plan")
    return phase.load


def _mean_rate(load: OpenLoop) -> float:
    return (load.first + load.last) / 2


def _measured_times(phase: Phase, seed: int, share: Share) -> Iterator[Floats]:
    """The due times from 0 on, in chunks."""
    load, seconds = _open_loop(phase), planned_seconds(phase)
    expected = seconds * _mean_rate(load)
    if load.arrivals == "poisson":
        chunks = _poisson([seed, 1], expected, phase.count)
    else:
        chunks = _evenly_spaced(0, phase.count or max(1, math.ceil(expected - COUNT_TOLERANCE)))
    growth = (load.last - load.first) / seconds
    for arrivals in _own(chunks, share):
        # Solves first*t + growth*t*t/2 = arrivals, in the form that also holds without growth.
        yield 2 * arrivals / (load.first + np.sqrt(np.maximum(load.first**2 + 2 * growth * arrivals, 0)))


def _warmup_arrivals(phase: Phase, seed: int) -> Iterator[Floats]:
    """Arrivals below 0. Uniform ones are in step with the measured part, so that the rate has no seam."""
    load = _open_loop(phase)
    expected = phase.warmup * load.first
    if load.arrivals == "poisson":
        return (arrivals - expected for arrivals in _poisson([seed, 0], expected))
    return _evenly_spaced(-math.floor(expected + COUNT_TOLERANCE), 0)


def _evenly_spaced(begin: int, end: int) -> Iterator[Floats]:
    for at in range(begin, end, CHUNK_ARRIVALS):
        yield np.arange(at, min(at + CHUNK_ARRIVALS, end), dtype=np.float64)


def _poisson(seed: list[int], expected: float, count: int | None = None) -> Iterator[Floats]:
    """Arrivals of a Poisson process of rate 1 between 0 and `expected`.

    Given their count, arrivals are distributed like the partial sums of `count` exponential steps, scaled so that one
    more step would reach `expected`. The total is found by generating the steps twice, so that nothing is stored.
    """
    scale = 1.0
    if count is not None:
        scale = expected / math.fsum(float(steps.sum()) for steps in _steps(seed, count + 1))
    reached = 0.0
    for steps in _steps(seed, count):
        arrivals = reached + np.cumsum(steps)
        reached = float(arrivals[-1])
        arrivals *= scale
        if count is None and reached >= expected:
            yield arrivals[arrivals < expected]
            return
        yield arrivals


def _steps(seed: list[int], count: int | None) -> Iterator[Floats]:
    random = np.random.default_rng(seed)
    generated = 0
    while count is None or generated < count:
        steps = random.standard_exponential(CHUNK_ARRIVALS)
        yield steps if count is None else steps[: count - generated]
        generated += CHUNK_ARRIVALS


def _own(chunks: Iterator[Floats], share: Share) -> Iterator[Floats]:
    """The arrivals of this process: every n-th one, for n processes."""
    passed = 0
    for chunk in chunks:
        yield chunk[(share.index - passed) % share.processes :: share.processes]
        passed += len(chunk)
