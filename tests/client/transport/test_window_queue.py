import asyncio

from headrace.client.transport.window_queue import WindowQueue
from tests.client.scripted_server import turns


class Places:
    def __init__(self, free: int) -> None:
        self.free = free
        self.room = WindowQueue(lambda: self.free)

    async def take(self) -> None:
        await self.room.enter()
        self.free -= 1

    def give_back(self, count: int) -> None:
        self.free += count
        self.room.give()


async def test_who_came_first_enters_first() -> None:
    places, order = Places(0), list[int]()

    async def enter(number: int) -> None:
        await places.take()
        order.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await turns()
    assert (len(places.room), places.room.crowded) == (3, True)
    places.give_back(2)
    await turns()
    assert order == [0, 1]
    places.give_back(1)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert not places.room.crowded


async def test_a_place_that_is_promised_is_not_given_twice() -> None:
    places = Places(0)
    first = asyncio.create_task(places.take())
    await turns()
    places.give_back(1)
    assert places.room.crowded
    second = asyncio.create_task(places.take())
    await first
    await turns()
    assert not second.done()
    places.give_back(1)
    await second


async def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    places = Places(0)
    first, second = asyncio.create_task(places.take()), asyncio.create_task(places.take())
    await turns()
    first.cancel()
    places.give_back(1)
    await second
    assert places.free == 0
    assert not places.room.crowded


async def test_who_is_cancelled_after_the_promise_passes_it_on() -> None:
    places = Places(0)
    first, second = asyncio.create_task(places.take()), asyncio.create_task(places.take())
    await turns()
    places.give_back(1)
    first.cancel()
    await second
    assert places.free == 0
    assert first.cancelled()


async def test_who_finds_a_free_place_behind_a_promise_gets_it() -> None:
    places = Places(0)
    first = asyncio.create_task(places.take())
    await turns()
    places.give_back(2)
    second = asyncio.create_task(places.take())
    await asyncio.gather(first, second)
    assert places.free == 0
