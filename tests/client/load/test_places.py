import asyncio
import random

from headrace.client.load.places import Places
from tests.client.load.virtual_time import FakeCaller


def places(callers: int, window: int) -> Places:
    return Places([FakeCaller() for _ in range(callers)], window)


async def test_callers_take_turns() -> None:
    three = places(3, 2)
    assert [await three.take() for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    assert repr(three) == "<Places: 6 of 6 used>"


async def test_the_one_with_the_fewest_in_flight_is_next() -> None:
    three = places(3, 4)
    for _ in range(6):
        await three.take()
    three.give_back(1)
    three.give_back(1)
    three.give_back(2)
    assert [await three.take() for _ in range(4)] == [1, 2, 1, 0]


async def test_it_is_always_one_with_the_fewest() -> None:
    dice, window = random.Random(1), 5
    many, used = places(20, window), [0] * 20
    for _ in range(5000):
        busy = [number for number in range(20) if used[number]]
        if sum(used) == 20 * window or (busy and dice.random() < 0.45):
            number = dice.choice(busy)
            many.give_back(number)
            used[number] -= 1
        else:
            number = await many.take()
            assert used[number] == min(used) < window
            used[number] += 1


async def test_without_a_place_it_waits_for_one() -> None:
    two = places(2, 1)
    await two.take()
    await two.take()
    waiting = asyncio.create_task(two.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    two.give_back(1)
    assert await waiting == 1


async def test_who_waited_and_was_cancelled_takes_nothing() -> None:
    one = places(1, 1)
    await one.take()
    waiting = asyncio.create_task(one.take())
    await asyncio.sleep(0)
    waiting.cancel()
    one.give_back(0)
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert repr(one) == "<Places: 0 of 1 used>"
    assert await one.take() == 0
