"""Coroutines that run without a task."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.server.transport.aio.driving import Driven

Ended = list[tuple[Any, BaseException | None]]


def drive(coroutine: Any) -> Ended:
    """What the callback is called with."""
    ended: Ended = []
    Driven(coroutine, lambda result, error: ended.append((result, error)))
    return ended


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_coroutine_runs_up_to_its_first_wait_at_once() -> None:
    log: list[str] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        log.append("started")
        value = await future
        await asyncio.sleep(0)
        return value + 1

    ended = drive(work())
    assert log == ["started"]
    future.set_result(41)
    await turns()
    assert ended == [(42, None)]


async def test_the_callback_comes_in_a_later_turn_even_if_there_is_nothing_to_wait_for() -> None:
    async def work() -> str:
        return "done"

    ended = drive(work())
    assert ended == []
    await turns(1)
    assert ended == [("done", None)]


async def test_the_callback_gets_an_error_whenever_it_is_raised() -> None:
    async def fail(after: int) -> None:
        await turns(after)
        raise ValueError("no")

    for after in range(3):
        ended = drive(fail(after))
        await turns(5)
        ((result, error),) = ended
        assert result is None
        assert isinstance(error, ValueError)


async def test_a_future_that_is_cancelled_is_an_error() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await future

    ended = drive(work())
    future.cancel()
    await turns()
    ((_, error),) = ended
    assert isinstance(error, asyncio.CancelledError)
