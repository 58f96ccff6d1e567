"""Waiters behave as futures to tasks, and a waker wakes all due tasks at once."""

import asyncio
from asyncio import tasks as asyncio_tasks
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any
from unittest.mock import Mock

import pytest

from headrace.client.transport.waker import Waiter, Waker
from tests.client.turns import turns

Start = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@pytest.fixture
async def waker() -> Waker:
    return Waker(asyncio.get_running_loop())


@pytest.fixture(params=["_CTask", "_PyTask"])
def start(request: pytest.FixtureRequest) -> Start:
    """Makes tasks with either of asyncio's implementations."""
    task: Start = getattr(asyncio_tasks, request.param)
    return task


def wake(waker: Waker, *waiters: Waiter) -> None:
    waker.due.extend(waiters)
    waker.schedule()


async def test_all_due_tasks_run_in_order_in_one_turn(waker: Waker, start: Start) -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        await waiters[number]
        order.append(number)

    waiters = [waker.waiter() for _ in range(5)]
    tasks = [start(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    wake(waker, *waiters[:3])
    waker.schedule()
    assert order == []
    await asyncio.sleep(0)
    assert order == [0, 1, 2]
    wake(waker, *waiters[3:])
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


def test_the_loop_calls_back_once_for_all_due_tasks() -> None:
    loop = Mock(spec=asyncio.AbstractEventLoop)
    waker = Waker(loop)
    waker.schedule()
    assert loop.call_soon.call_count == 0
    wake(waker, waker.waiter(), waker.waiter())
    wake(waker, waker.waiter())
    assert loop.call_soon.call_count == 1
    loop.call_soon.call_args.args[0]()
    assert not waker.due
    assert loop.call_soon.call_count == 1
    wake(waker, waker.waiter())
    assert loop.call_soon.call_count == 2


async def test_tasks_that_become_due_meanwhile_are_woken_last(waker: Waker, start: Start) -> None:
    order: list[str] = []

    async def writer() -> None:
        await rest
        order.append("writer")

    async def work(name: str) -> None:
        await waiters[name]
        order.append(name)
        if name == "a":
            wake(waker, rest)

    rest, waiters = waker.waiter(), {name: waker.waiter() for name in "ab"}
    tasks = [start(writer()), *[start(work(name)) for name in "ab"]]
    await asyncio.sleep(0)
    wake(waker, *waiters.values())
    await asyncio.sleep(0)
    assert order == ["a", "b", "writer"]
    await asyncio.gather(*tasks)


async def test_a_task_that_is_cancelled_while_it_waits(waker: Waker, start: Start) -> None:
    async def work() -> None:
        await waiter

    waiter = waker.waiter()
    task = start(work())
    await asyncio.sleep(0)
    task.cancel("enough")
    wake(waker, waiter)
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    wake(waker, waiter)
    await turns()
    assert not waker.due


@pytest.mark.parametrize("woken", [False, True])
async def test_a_task_may_refuse_to_be_cancelled(waker: Waker, start: Start, woken: bool) -> None:
    async def work() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            await first
        assert caught.value.args == ()
        await second

    first, second = waker.waiter(), waker.waiter()
    task = start(work())
    await asyncio.sleep(0)
    if woken:
        wake(waker, first)
    task.cancel()
    await turns()
    assert not task.done()
    wake(waker, second)
    await task


async def test_a_waiter_is_woken_once(waker: Waker) -> None:
    calls: list[Waiter] = []
    due, cancelled = waker.waiter(), waker.waiter()
    for waiter in (due, cancelled):
        waiter.add_done_callback(calls.append, context=copy_context())
    assert cancelled.cancel("one")
    wake(waker, due, cancelled, due)
    assert not cancelled.cancel("two")
    await turns()
    assert calls == [cancelled, due]
    assert not due.cancel()
    due.result()
    with pytest.raises(asyncio.CancelledError, match="one"):
        cancelled.result()


async def test_a_timeout_ends_the_waiting(waker: Waker) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waker.waiter()


async def test_each_task_runs_in_its_own_context(waker: Waker, start: Start) -> None:
    number = ContextVar("number", default=-1)

    async def work(mine: int) -> None:
        number.set(mine)
        with suppress(asyncio.CancelledError):
            await waiters[mine]
        assert number.get() == mine

    waiters = [waker.waiter() for _ in range(3)]
    tasks = [start(work(mine)) for mine in range(3)]
    await asyncio.sleep(0)
    number.set(7)
    wake(waker, *waiters[:2])
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert [task.exception() for task in tasks] == [None] * 3
    assert number.get() == 7


def test_a_task_that_stops_the_loop_does_not_lose_the_others() -> None:
    async def work(stops: bool) -> None:
        await waiters[stops]
        ran.append(stops)
        if stops:
            raise SystemExit

    async def main() -> None:
        waker = Waker(loop)
        waiters.extend(waker.waiter() for _ in range(2))
        tasks.extend(loop.create_task(work(stops)) for stops in (True, False))
        await asyncio.sleep(0)
        wake(waker, waiters[True], waiters[False])
        await tasks[1]

    ran: list[bool] = []
    waiters: list[Waiter] = []
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    whole = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(whole)
    assert ran == [True]
    loop.run_until_complete(whole)
    assert ran == [True, False]
    assert isinstance(tasks[0].exception(), SystemExit)
    loop.close()
