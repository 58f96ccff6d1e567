"""When the requests of an open loop are due, and who sends which. Pure.

The arrivals of a phase are evenly spaced (uniform) or at exponential distances (Poisson) in the *integral* of the rate,
so that a ramp needs no approximation: the integral is inverted. All processes walk the same arrivals, and each takes
its own, so that together they keep the same plan whatever their number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.client.load.run import ClosedLoop, OpenLoop, Phase
from headrace.client.load.samples import Floats
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

SECONDS = {"s": 1, "m": 60, "h": 3600}
LOWEST, HIGHEST = 1 / 3600, 1e6
"""Requests a second."""
MOST_POINTS = 64
MOST_CONCURRENT = 65536

CHUNK = 4096
"""So many arrivals are worked out at once."""
ROUNDING = 1e-6
"""0.07 s at 100/s are seven arrivals, though the product is a little more than 7."""

_RATE = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one process among `number` of them."""

    index: int
    number: int


WHOLE = Share(0, 1)


def parse_rate(text: str) -> tuple[float, float]:
    """Requests a second, first and last, of `200/s`, `200`, `12/m` or `50..500/s`. Raises UsageError."""
    rates, _, unit = text.partition("/")
    first, ramp, last = rates.partition("..")
    numbers = [_RATE.fullmatch(rate) for rate in ((first, last) if ramp else (first, first))]
    seconds = SECONDS.get(unit.strip() or ("" if "/" in text else "s"))
    if seconds is None or not all(numbers):
        raise UsageError(f"{quote(text)} is no rate; write 200/s, 12/m, or 50..500/s for one that grows")
    least, most = (float(number[1]) / seconds for number in numbers if number)
    if not all(LOWEST <= rate <= HIGHEST for rate in (least, most)):
        raise UsageError(f"rate {quote(text)} is out of bounds: it can be from 1/h to {HIGHEST:.0f}/s")
    return least, most


def parse_sweep(text: str) -> list[int]:
    """The concurrencies of `1,2,4,8`. Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise UsageError(f"{quote(text)} is no sweep; write the concurrencies with commas, as in 1,2,4,8")
    points = [int(word) for word in words]
    if not all(1 <= point <= MOST_CONCURRENT for point in points):
        raise UsageError(f"{quote(text)} is out of bounds: a concurrency can be from 1 to {MOST_CONCURRENT}")
    if len(points) > MOST_POINTS:
        raise UsageError(f"a sweep has at most {MOST_POINTS} points, and these are {len(points)}")
    return points


def seconds_of(phase: Phase) -> float:
    """How long the measured part is planned to be: infinite for a closed loop with a count, which plans nothing."""
    if phase.count is None:
        if phase.duration is None:
            raise ValueError("a phase needs a duration or a count")
        return phase.duration
    return math.inf if isinstance(phase.load, ClosedLoop) else phase.count / _mean(phase.load)


def due_times(phase: Phase, seed: int, share: Share = WHOLE) -> Iterator[float]:
    """When this process is to send, ascending, in seconds; negative during the warm-up, which has the first rate."""
    rate = _open(phase).first
    for arrivals in _dealt(_warm_up(phase, seed), share):
        yield from (arrivals / rate).tolist()
    for times in _measured(phase, seed, share):
        yield from times.tolist()


def planned(phase: Phase, seed: int, share: Share = WHOLE, until: float = math.inf) -> int:
    """How many of the due times are in the measured part and not after `until`."""
    count = 0
    for times in _measured(phase, seed, share):
        count += int(np.count_nonzero(times <= until))
        if times.size and times[-1] > until:
            break
    return count


def concurrency_of(total: int, share: Share) -> int:
    """How many requests of a closed loop this process keeps in flight; none when there are more processes."""
    return total // share.number + (share.index < total % share.number)


def count_of(count: int, concurrency: int, share: Share) -> int:
    """How many of all requests of a closed loop this process makes: those without concurrency make none."""
    busy = min(concurrency, share.number)
    return concurrency_of(count, Share(share.index, busy)) if share.index < busy else 0


def _open(phase: Phase) -> OpenLoop:
    if not isinstance(phase.load, OpenLoop):
        raise TypeError("only an open loop has a plan")
    return phase.load


def _mean(load: OpenLoop) -> float:
    return (load.first + load.last) / 2


def _measured(phase: Phase, seed: int, share: Share) -> Iterator[Floats]:
    """The due times from 0 on, in chunks."""
    load, seconds = _open(phase), seconds_of(phase)
    expected = seconds * _mean(load)
    if load.arrivals == "poisson":
        chunks = _poisson([seed, 1], expected, phase.count)
    else:
        chunks = _evenly(0, phase.count or max(1, math.ceil(expected - ROUNDING)))
    growth = (load.last - load.first) / seconds
    for arrivals in _dealt(chunks, share):
        # Where first*t + growth*t*t/2 = arrivals, in the form that also holds without growth.
        yield 2 * arrivals / (load.first + np.sqrt(np.maximum(load.first**2 + 2 * growth * arrivals, 0)))


def _warm_up(phase: Phase, seed: int) -> Iterator[Floats]:
    """Arrivals below 0. Uniform ones are in step with those that follow, so that the rate has no seam."""
    load = _open(phase)
    expected = phase.warmup * load.first
    if load.arrivals == "poisson":
        return (arrivals - expected for arrivals in _poisson([seed, 0], expected))
    return _evenly(-math.floor(expected + ROUNDING), 0)


def _evenly(begin: int, end: int) -> Iterator[Floats]:
    for at in range(begin, end, CHUNK):
        yield np.arange(at, min(at + CHUNK, end), dtype=np.float64)


def _poisson(seed: list[int], expected: float, count: int | None = None) -> Iterator[Floats]:
    """Arrivals of a Poisson process of rate 1 from 0 to `expected`.

    Given that there are `count`, they are distributed like the sums of so many steps, scaled to what one step more
    would reach; that sum is found by making the steps twice, so that nothing is stored.
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
    made = 0
    while count is None or made < count:
        steps = random.standard_exponential(CHUNK)
        yield steps if count is None else steps[: count - made]
        made += CHUNK


def _dealt(chunks: Iterator[Floats], share: Share) -> Iterator[Floats]:
    """Every n-th arrival, from that of this process on."""
    passed = 0
    for chunk in chunks:
        yield chunk[(share.index - passed) % share.number :: share.number]
        passed += len(chunk)
