"""The gate that admits calls."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.services.gate import Gate
from headrace.wire.errors import NotFound, ResourceExhausted, Unavailable


async def test_calls_beyond_the_limit_are_refused() -> None:
    gate = Gate(2, "the limit is two")
    with gate:
        with gate:
            with pytest.raises(ResourceExhausted, match="the limit is two"), gate:
                pass
            assert repr(gate) == "<Gate 2 of 2 inside>"
        with gate:
            pass
    assert repr(gate) == "<Gate 0 of 2 inside>"


async def test_a_failed_call_leaves_the_gate() -> None:
    gate = Gate(1, "full")
    for _ in range(3):
        with pytest.raises(NotFound), gate:
            raise NotFound("nothing")
    assert repr(gate) == "<Gate 0 of 1 inside>"


async def test_a_closed_gate_refuses_calls_and_waits_for_the_last_one() -> None:
    gate = Gate(2, "full")
    waiting = asyncio.create_task(gate.wait_closed())
    with gate:
        gate.close()
        with pytest.raises(Unavailable, match="stopping"), gate:
            pass
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(30):
        await waiting
    assert repr(gate) == "<Gate 0 of 2 inside, closed>"


async def test_waiting_for_an_empty_gate_ends_when_it_closes() -> None:
    gate = Gate(1, "full")
    gate.close()
    async with asyncio.timeout(30):
        await gate.wait_closed()


async def test_work_is_cancelled_when_the_gate_closes() -> None:
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
    gate.close()
    with pytest.raises(Unavailable, match="stopping"):
        await second
    assert ended == ["work"] * 3
