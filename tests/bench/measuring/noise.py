"""How quiet the machine is: a fixed loop of plain Python, timed between turns.

It always does the same, so whatever makes it slower made the turns around it slower too: other processes that take the
processor (its time on the clock exceeds its processor time), or a processor that is itself slower for a while, because
of its frequency or a neighbour on the same core (its processor time exceeds that of its quickest run).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.measuring.spread import spread

ITERATIONS = 200_000
USUAL_SECONDS = 0.011
"""Processor time of the loop on the machine that the limits of the echo's modes were read on (`echo_mode.py`)."""
QUIET_MEDIAN, QUIET_HIGH = 1.08, 1.5
"""Over the quickest loop of the run: what the median and the 90th percentile may be on a quiet machine."""
MIN_LOOPS = 3


@dataclass(frozen=True, slots=True)
class LoopTime:
    """Seconds that a loop took on the clock, and of its thread's processor time."""

    wall: float
    processor: float


def timed_loop(iterations: int = ITERATIONS) -> LoopTime:
    began, used = time.perf_counter(), time.thread_time()
    total = 0
    for number in range(iterations):
        total += number * number
    return LoopTime(time.perf_counter() - began, time.thread_time() - used)


@dataclass(frozen=True, slots=True)
class NoiseVerdict:
    quiet: bool
    median: float
    """Of the loops' time on the clock, over the quickest loop's processor time."""
    high: float
    """The same of the 90th percentile."""
    slower: float
    """The median of the loops' processor time over the quickest's: how much slower the processor itself was."""
    loops: int

    @property
    def name(self) -> str:
        return "quiet" if self.quiet else "noisy"

    def __str__(self) -> str:
        took = (
            f"{self.loops} fixed loops took {self.median:.2f} of the quickest's processor time in the median and "
            f"{self.high:.2f} in the slowest tenth (quiet: up to {QUIET_MEDIAN} and {QUIET_HIGH}); "
            f"their own processor time was {self.slower:.2f} of the quickest's"
        )
        if self.quiet:
            return f"The machine was quiet: {took}."
        return (
            f"The machine was NOISY: {took}. Rates are too low and times too high, and no ratio is certainly reached "
            "or missed: measure again on a quiet machine. Processor time for a request is affected less, but a server "
            "that polls does so for longer while its clients wait for a processor (HEADRACE_BUSY_POLL=0: not at all)."
        )


@dataclass(slots=True)
class Noise:
    loops: list[LoopTime] = field(default_factory=list)

    def sample(self) -> None:
        self.loops.append(timed_loop())

    @property
    def speed(self) -> float:
        """How much slower this machine's processor is than that of the echo's limits, by the quickest loop."""
        return min((each.processor for each in self.loops), default=USUAL_SECONDS) / USUAL_SECONDS

    def verdict(self) -> NoiseVerdict:
        return judged(self.loops)


def judged(loops: Sequence[LoopTime]) -> NoiseVerdict:
    """Of at least one loop. A run of very few loops is never called quiet."""
    quickest = min(each.processor for each in loops)
    walls = sorted(each.wall / quickest for each in loops)
    median, high = spread(walls).median, walls[min(len(walls) - 1, int(0.9 * len(walls)))]
    slower = spread([each.processor / quickest for each in loops]).median
    quiet = len(loops) >= MIN_LOOPS and median <= QUIET_MEDIAN and high <= QUIET_HIGH
    return NoiseVerdict(quiet, median, high, slower, len(loops))
