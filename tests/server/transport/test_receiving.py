"""Which calls are ended when memory is short, and which are not."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import ResourceExhausted


class Calls:
    """Handlers that wait for a message for ever."""

    def __init__(self) -> None:
        self.receiving = Receiving()
        self.tasks: dict[str, asyncio.Task[object]] = {}

    async def arrive(self, name: str, peer: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(asyncio.Event().wait())
        self.tasks[name] = task
        self.receiving.add(task, lambda: peer)
        await asyncio.sleep(0)

    async def ended(self) -> set[str]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return {name for name, task in self.tasks.items() if task.done()}


@pytest.mark.parametrize("scheme", ["ipv4:10.0.0.%d:%d", "ipv6:%%5B::%d%%5D:%d"])
async def test_the_host_with_the_most_calls_loses_half_of_them_the_latest_first(scheme: str) -> None:
    calls = Calls()
    for number in range(3):
        await calls.arrive(f"good {number}", scheme % (1, 5000))
    for number in range(5):
        await calls.arrive(f"bad {number}", scheme % (2, 6000 + number))
    count, host = calls.receiving.end_some()
    assert (count, host) == (3, (scheme % (2, 0)).removesuffix(":0"))
    assert await calls.ended() == {"bad 2", "bad 3", "bad 4"}
    error = calls.receiving.error(calls.tasks["bad 4"])
    assert isinstance(error, ResourceExhausted)
    assert error.retryable
    assert calls.receiving.error(calls.tasks["bad 0"]) is None
    calls.receiving.end_some()
    assert await calls.ended() == {"bad 2", "bad 3", "bad 4", "good 1", "good 2"}


async def test_calls_of_one_socket_are_of_one_host() -> None:
    calls = Calls()
    await calls.arrive("one", "unix:")
    await calls.arrive("other", "unix:")
    assert calls.receiving.end_some() == (1, "unix:")
    assert await calls.ended() == {"other"}


async def test_those_that_have_received_are_not_ended() -> None:
    calls = Calls()
    await calls.arrive("received", "ipv4:10.0.0.1:1")
    calls.receiving.remove(calls.tasks["received"])
    assert calls.receiving.end_some() == (0, "")
    assert await calls.ended() == set()
