"""Places in the window are given in the order of asking, and none is lost or given twice."""

import asyncio

from headrace.client.transport.window_queue import WindowQueue
from tests.client.turns import turns


class Places:
    def __init__(self, free: int) -> None:
        self.free = free
        self.queue = WindowQueue(lambda: self.free)

    async def take(self, places: int = 1) -> None:
        await self.queue.wait_turn()
        assert self.free > 0
        self.free -= places

    def give_back(self, count: int) -> None:
        self.free += count
        self.queue.admit()


async def test_the_first_task_is_admitted_first() -> None:
    places, order = Places(0), list[int]()

    async def enter(number: int) -> None:
        await places.take()
        order.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await turns()
    assert (len(places.queue), places.queue.contended) == (3, True)
    places.give_back(2)
    await turns()
    assert order == [0, 1]
    places.give_back(1)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert not places.queue.contended


async def test_a_place_is_not_given_to_two_tasks() -> None:
    places = Places(0)
    first = asyncio.create_task(places.take())
    await turns()
    places.give_back(1)
    assert places.queue.contended
    second = asyncio.create_task(places.take())
    await first
    await turns()
    assert not second.done()
    places.give_back(1)
    await second


async def test_a_task_cancelled_while_waiting_leaves_the_queue() -> None:
    places = Places(0)
    first, second = asyncio.create_task(places.take()), asyncio.create_task(places.take())
    await turns()
    first.cancel()
    places.give_back(1)
    await second
    assert places.free == 0
    assert not places.queue.contended


async def test_a_task_cancelled_after_it_was_admitted_passes_its_place_on() -> None:
    places = Places(0)
    first, second = asyncio.create_task(places.take()), asyncio.create_task(places.take())
    await turns()
    places.give_back(1)
    first.cancel()
    await second
    assert places.free == 0
    assert first.cancelled()


async def test_a_newcomer_gets_a_place_that_is_left_after_admissions() -> None:
    places = Places(0)
    first = asyncio.create_task(places.take())
    await turns()
    places.give_back(2)
    second = asyncio.create_task(places.take())
    await asyncio.gather(first, second)
    assert places.free == 0


async def test_a_task_that_takes_several_places_keeps_others_from_theirs() -> None:
    places, order = Places(0), list[int]()

    async def enter(number: int) -> None:
        await places.take(2)
        order.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(6)]
    await turns()
    places.give_back(3)  # admits three, of which the first two take four
    newcomer = asyncio.create_task(enter(6))
    await turns()
    assert order == [0, 1]
    tasks[2].cancel()
    for _ in range(5):
        places.give_back(2)
        await turns()
    await asyncio.gather(*tasks[3:], newcomer)
    assert order == [0, 1, 3, 4, 5, 6]
    assert not places.queue.contended
    assert len(places.queue) == 0
