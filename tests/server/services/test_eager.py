"""Coroutines that start at once and are awaited later."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.services.eager import EagerCoroutine


async def test_a_coroutine_runs_up_to_its_first_wait() -> None:
    log: list[str] = []
    future = asyncio.get_running_loop().create_future()

    async def work() -> None:
        log.append("started")
        await future
        await asyncio.sleep(0)
        log.append("ended")

    eager = EagerCoroutine(work())
    assert log == ["started"]
    future.set_result(None)
    await eager
    assert log == ["started", "ended"]


async def test_a_coroutine_that_never_waits_ends_at_once() -> None:
    async def work() -> None:
        log.append("done")

    log: list[str] = []
    eager = EagerCoroutine(work())
    assert log == ["done"]
    await eager


async def test_an_exception_is_raised_when_the_coroutine_is_awaited() -> None:
    async def fail(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError("no")

    for turns in range(3):
        eager = EagerCoroutine(fail(turns))
        with pytest.raises(ValueError, match="no"):
            await eager


async def test_cancelling_the_awaiting_task_cancels_the_coroutine() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def wait(eager: EagerCoroutine) -> None:
        await eager

    task = asyncio.create_task(wait(EagerCoroutine(work())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["cancelled"]


async def test_cancel_closes_the_coroutine_and_the_future_it_waits_for() -> None:
    log: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await future
        finally:
            log.append("closed")

    eager = EagerCoroutine(work())
    eager.cancel()
    assert log == ["closed"]
    assert future.cancelled()
    eager.cancel()


async def test_a_coroutine_is_ready_when_its_future_is_done_and_returns_its_result() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future + 1

    eager = EagerCoroutine(wait())
    assert not eager.ready
    future.set_result(41)
    assert eager.ready
    assert await eager == 42
    assert eager.ready
