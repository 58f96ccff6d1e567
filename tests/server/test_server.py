"""Memory that the server gives back."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server import server
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine


async def test_memory_is_given_back_once_after_each_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    rounds = asyncio.Queue[None]()

    async def sleep(seconds: float) -> None:
        assert seconds == server.IDLE_SECONDS
        await rounds.get()

    monkeypatch.setattr(server, "give_back_memory", lambda: given_back.append(1))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    dispatcher = Dispatcher(Core(Limits()), FakeEngine())
    task = asyncio.create_task(server._return_memory_when_idle(dispatcher))

    async def passes(*, busy: bool) -> int:
        """A period passes. How often memory has been given back by then."""
        if busy:
            dispatcher.act()
        rounds.put_nowait(None)
        for _ in range(5):
            await _turn()
        return len(given_back)

    await _turn()
    assert await passes(busy=False) == 0
    assert await passes(busy=True) == 0
    assert await passes(busy=True) == 0
    assert await passes(busy=False) == 1
    assert await passes(busy=False) == 1
    assert await passes(busy=True) == 1
    assert await passes(busy=False) == 2
    task.cancel()


async def _turn() -> None:
    """One turn of the loop."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future
