"""Which caller gets the next request."""

import asyncio
import random

from headrace.client.load.sending.picker import CallerPicker
from tests.client.load.virtual_time import FakeCaller


def picker(callers: int, window: int) -> CallerPicker:
    return CallerPicker([FakeCaller() for _ in range(callers)], window)


async def test_callers_take_turns() -> None:
    three = picker(3, 2)
    assert [await three.acquire() for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    assert repr(three) == "<CallerPicker: 6 of 6 in flight>"


async def test_the_caller_with_the_fewest_in_flight_is_next() -> None:
    three = picker(3, 4)
    for _ in range(6):
        await three.acquire()
    three.release(1)
    three.release(1)
    three.release(2)
    assert [await three.acquire() for _ in range(4)] == [1, 2, 1, 0]


async def test_the_picked_caller_always_has_the_fewest_in_flight() -> None:
    dice, window = random.Random(1), 5
    many, used = picker(20, window), [0] * 20
    for _ in range(5000):
        busy = [number for number in range(20) if used[number]]
        if sum(used) == 20 * window or (busy and dice.random() < 0.45):
            number = dice.choice(busy)
            many.release(number)
            used[number] -= 1
        else:
            number = await many.acquire()
            assert used[number] == min(used) < window
            used[number] += 1


async def test_acquire_waits_while_all_callers_are_full() -> None:
    two = picker(2, 1)
    await two.acquire()
    await two.acquire()
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    two.release(1)
    assert await waiting == 1


async def test_a_cancelled_wait_acquires_nothing() -> None:
    one = picker(1, 1)
    await one.acquire()
    waiting = asyncio.create_task(one.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    one.release(0)
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert repr(one) == "<CallerPicker: 0 of 1 in flight>"
    assert await one.acquire() == 0
