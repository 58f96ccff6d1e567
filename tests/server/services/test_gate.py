"""The gate by which calls come in."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.services.gate import Gate
from headrace.wire.errors import NotFound, ResourceExhausted, Unavailable


async def test_a_gate_admits_calls_up_to_its_limit() -> None:
    gate = Gate(2, "two are in")
    with gate:
        with gate:
            with pytest.raises(ResourceExhausted, match="two are in"), gate:
                pass
            assert repr(gate) == "<Gate 2 of 2 inside>"
        with gate:
            pass
    assert repr(gate) == "<Gate 0 of 2 inside>"


async def test_a_call_that_fails_leaves_the_gate() -> None:
    gate = Gate(1, "full")
    for _ in range(3):
        with pytest.raises(NotFound), gate:
            raise NotFound("nothing")
    assert repr(gate) == "<Gate 0 of 1 inside>"


async def test_a_gate_is_shut_and_then_empty() -> None:
    gate = Gate(2, "full")
    emptied = asyncio.create_task(gate.emptied())
    with gate:
        gate.shut()
        with pytest.raises(Unavailable, match="stopping"), gate:
            pass
        await asyncio.sleep(0)
        assert not emptied.done()
    async with asyncio.timeout(1):
        await emptied
    assert repr(gate) == "<Gate 0 of 2 inside, shut>"


async def test_a_gate_without_calls_is_empty_when_it_is_shut() -> None:
    gate = Gate(1, "full")
    gate.shut()
    async with asyncio.timeout(1):
        await gate.emptied()


async def test_work_while_the_gate_is_open() -> None:
    gate = Gate(1, "full")
    release = asyncio.Event()
    ended: list[str] = []

    async def work() -> str:
        try:
            await release.wait()
        finally:
            ended.append("work")
        return "result"

    async def fail() -> None:
        raise NotFound("nothing")

    first = asyncio.create_task(gate.while_open(work()))
    await asyncio.sleep(0)
    release.set()
    assert await first == "result"
    with pytest.raises(NotFound):
        await gate.while_open(fail())
    release.clear()
    second = asyncio.create_task(gate.while_open(work()))
    third = asyncio.create_task(gate.while_open(work()))
    for _ in range(3):
        await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    gate.shut()
    with pytest.raises(Unavailable, match="stopping"):
        await second
    assert ended == ["work"] * 3
