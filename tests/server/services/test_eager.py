"""Coroutines that are begun at once and awaited later."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.services.eager import EagerCoroutine


async def test_a_coroutine_runs_up_to_its_first_wait() -> None:
    said: list[str] = []
    future = asyncio.get_running_loop().create_future()

    async def work() -> None:
        said.append("begun")
        await future
        await asyncio.sleep(0)
        said.append("ended")

    begun = EagerCoroutine(work())
    assert said == ["begun"]
    future.set_result(None)
    await begun
    assert said == ["begun", "ended"]


async def test_a_coroutine_that_waits_for_nothing_has_ended() -> None:
    async def work() -> None:
        said.append("done")

    said: list[str] = []
    begun = EagerCoroutine(work())
    assert said == ["done"]
    await begun


async def test_an_exception_is_raised_when_the_coroutine_is_awaited() -> None:
    async def fail(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError("no")

    for turns in range(3):
        begun = EagerCoroutine(fail(turns))
        with pytest.raises(ValueError, match="no"):
            await begun


async def test_cancelling_the_awaiting_task_cancels_the_coroutine() -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def wait(begun: EagerCoroutine) -> None:
        await begun

    task = asyncio.create_task(wait(EagerCoroutine(work())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cancelled"]


async def test_a_coroutine_that_is_never_awaited_is_cancelled_with_what_it_waits_for() -> None:
    said: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await future
        finally:
            said.append("closed")

    begun = EagerCoroutine(work())
    begun.cancel()
    assert said == ["closed"]
    assert future.cancelled()
    begun.cancel()


async def test_what_it_returns_and_when_it_is_ready() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future + 1

    begun = EagerCoroutine(wait())
    assert not begun.ready
    future.set_result(41)
    assert begun.ready
    assert await begun == 42
    assert begun.ready
