"""The pacer with a fake clock: when its waits end, and how much of the time it spins."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace.client.load.sending.pacer import (
    MAX_SPIN_SECONDS,
    MIN_SPIN_SECONDS,
    YIELD_EVERY,
    Pacer,
    PreciseEventLoop,
)

TURN_SECONDS = 2e-6


class FakeClock:
    """Advances by each sleep and `oversleep` on top, or by TURN_SECONDS if the sleep is 0."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.time = 0.0
        self.oversleep = oversleep
        self.slept: list[float] = []
        self.stall: tuple[float, float] | None = None
        """(moment, seconds): the first sleep that ends after the moment takes that many seconds longer."""

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.time += seconds + self.oversleep if seconds else TURN_SECONDS
        if self.stall and self.time >= self.stall[0]:
            self.time += self.stall[1]
            self.stall = None

    @property
    def turns(self) -> int:
        return self.slept.count(0)


async def lateness(clock: FakeClock, due: Sequence[float]) -> list[float]:
    """How late the wait for each moment ended."""
    pacer, late = Pacer(clock.now, clock.sleep), []
    for moment in due:
        await pacer.wait_until(moment)
        late.append(clock.time - moment)
    return late


def every(seconds: float, number: int) -> list[float]:
    return [seconds * (index + 1) for index in range(number)]


async def test_a_wait_ends_at_its_moment_and_never_before() -> None:
    late = await lateness(FakeClock(), every(0.005, 200))
    assert min(late) >= 0
    assert max(late) <= TURN_SECONDS


@pytest.mark.parametrize("oversleep", [0.0001, 0.0004])
async def test_oversleeping_is_learnt_from_the_first_sleep(oversleep: float) -> None:
    late = await lateness(FakeClock(oversleep), every(0.005, 200))
    assert late[0] == pytest.approx(oversleep - MIN_SPIN_SECONDS)
    assert min(late) >= 0
    assert max(late[1:]) <= TURN_SECONDS


async def test_most_of_the_time_is_slept_and_not_spun() -> None:
    clock = FakeClock(0.0001)
    await lateness(clock, every(0.005, 200))
    assert clock.turns * TURN_SECONDS < 0.03 * clock.time


async def test_a_stall_makes_the_next_moments_late_but_skips_none() -> None:
    clock = FakeClock()
    clock.stall = (0.995, 0.5)
    late = await lateness(clock, every(0.01, 300))
    assert len(late) == 300
    assert max(late[:99]) <= TURN_SECONDS
    # The moments 1.00, 1.01, 1.02 ... 1.49 are all reached at 1.5.
    expected = [0.5 - 0.01 * index for index in range(50)]
    assert late[99:149] == pytest.approx(expected, abs=0.0002)
    assert max(late[150:]) <= TURN_SECONDS


async def test_the_spin_shrinks_again_after_a_stall() -> None:
    clock = FakeClock()
    clock.stall = (0.995, 0.5)
    await lateness(clock, every(0.01, 300))
    assert clock.turns * TURN_SECONDS < 300 * MIN_SPIN_SECONDS + 12 * MAX_SPIN_SECONDS


async def test_moments_that_have_passed_return_at_once_but_yield_to_the_loop() -> None:
    clock = FakeClock()
    clock.time = 10.0
    late = await lateness(clock, [1.0] * (10 * YIELD_EVERY))
    assert clock.slept == [0] * 10
    assert min(late) == 9.0


async def test_a_rate_that_is_too_fast_for_the_clock_is_not_lowered() -> None:
    clock = FakeClock()
    pacer = Pacer(clock.now, clock.sleep)
    for moment in every(1e-5, 1000):
        await pacer.wait_until(moment)
        clock.time += 3e-5  # the cost of a request
    assert clock.turns * TURN_SECONDS == pytest.approx(clock.time - 1000 * 3e-5)
    assert clock.turns <= 1000 / YIELD_EVERY + 10


def test_the_precise_loop_sleeps_for_less_than_a_millisecond() -> None:
    async def shortest_sleep() -> float:
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(50):
            begin = loop.time()
            await asyncio.sleep(0.0002)
            times.append(loop.time() - begin)
        return min(times)

    with asyncio.Runner(loop_factory=PreciseEventLoop) as runner:
        assert 0.0002 <= runner.run(shortest_sleep()) < 0.001
