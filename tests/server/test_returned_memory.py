"""When memory goes back to the system: after a peak also under light load, and once when nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from headrace.server import returned_memory
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine

MIB = 1 << 20


class Machine:
    """A C library with this much resident and free memory, and a clock that passes period by period."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resident = self.free = 0
        self.given_back = self.released = 0
        self._periods = asyncio.Queue[None]()
        self._dispatcher = Dispatcher(Core(Limits()), FakeEngine())
        monkeypatch.setattr(returned_memory, "SAMPLES", 1)
        monkeypatch.setattr(returned_memory, "resident_bytes", lambda: self.resident)
        monkeypatch.setattr(returned_memory, "free_bytes", lambda: self.free)
        monkeypatch.setattr(returned_memory, "give_back_memory", self._give_back)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)
        self._task = asyncio.create_task(returned_memory.return_memory(self._dispatcher, self._release))

    async def passes(self, *, busy: bool) -> int:
        """A period passes. How often memory has been given back by then."""
        if busy:
            self._dispatcher.act()
        self._periods.put_nowait(None)
        while self._periods.qsize():
            await _turn()
        await _turn()
        async with asyncio.timeout(30):
            while self._giving:
                await _turn()
        for _ in range(20):
            await _turn()
        assert self.released == self.given_back
        return self.given_back

    _giving = False

    def _release(self) -> None:
        self.released += 1
        self._giving = True

    def _give_back(self) -> None:
        self.given_back += 1
        self.resident -= self.free
        self._giving = False

    async def _sleep(self, seconds: float) -> None:
        assert seconds == returned_memory.SAMPLE_SECONDS
        await self._periods.get()

    def close(self) -> None:
        self._task.cancel()


@pytest_asyncio.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    made = Machine(monkeypatch)
    yield made
    made.close()


async def test_memory_is_given_back_once_after_each_burst(machine: Machine) -> None:
    await _turn()
    assert await machine.passes(busy=False) == 0
    assert await machine.passes(busy=True) == 0
    assert await machine.passes(busy=True) == 0
    assert await machine.passes(busy=False) == 1
    assert await machine.passes(busy=False) == 1
    assert await machine.passes(busy=True) == 1
    assert await machine.passes(busy=False) == 2


async def test_memory_of_a_peak_is_given_back_under_load_too(machine: Machine) -> None:
    await _turn()
    machine.resident = 500 * MIB
    assert await machine.passes(busy=True) == 0
    machine.free = 400 * MIB  # the peak is over
    assert await machine.passes(busy=True) == 1
    assert machine.resident == 100 * MIB
    # What is with the system is still free, and nothing more is to be had.
    assert await machine.passes(busy=True) == 1
    machine.resident += 300 * MIB
    assert await machine.passes(busy=True) == 2


async def test_free_memory_that_is_used_again_is_kept(machine: Machine) -> None:
    await _turn()
    for free in (30, 60, 10, 64):
        machine.resident, machine.free = 500 * MIB, free * MIB
        assert await machine.passes(busy=True) == 0


async def _turn() -> None:
    """One turn of the loop."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future
