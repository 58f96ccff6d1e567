"""Timeouts hold even if the server is silent."""

import asyncio
from typing import Any

import numpy as np
import pytest

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import ScriptedServer
from tests.client.protocol.tiny_server import TinyServer
from tests.stopwatch import Stopwatch

X = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("timeout", [0.2, np.float32(0.2), np.float64(0.2)])
async def test_a_ticket_ends_a_little_after_its_timeout_if_the_server_is_silent(
    server: ScriptedServer, client: hc.Server, stopwatch: Stopwatch, timeout: Any
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        stopwatch.start()
        tickets = [await stream.submit("m", {"x": X}, outputs=[], timeout=timeout) for _ in range(3)]
        for ticket in tickets:
            with pytest.raises(hc.DeadlineExceeded, match="did not end the ticket"):
                await ticket
        assert stopwatch.elapsed() > 0.2
        assert stopwatch.ran() < 0.6
        assert stream.in_flight == 0
        commands = await peer.commands(6)
        assert [command.timeout_us for command in commands[:3]] == [200_000] * 3
        assert [command.kind for command in commands[3:]] == [pb.Command.CANCEL] * 3
        peer.end_when_closed()


async def test_each_ticket_ends_in_its_own_time(
    server: ScriptedServer, client: hc.Server, stopwatch: Stopwatch
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        stopwatch.start()
        slow = await stream.submit("m", {"x": X}, outputs=[], timeout=0.5)
        quick = await stream.submit("m", {"x": X}, outputs=[], timeout=0.1)
        past = await stream.submit("m", {"x": X}, outputs=[], timeout=-1)
        submitting = stopwatch.elapsed()
        ends, ran = {}, {}
        async for ticket in hc.completed([slow, quick, past]):
            ends[ticket], ran[ticket] = stopwatch.elapsed(), stopwatch.ran()
        # If the machine stood still meanwhile, the time of the quick one began when that of the slow one was over.
        if submitting < 0.4:
            assert list(ends) == [past, quick, slow]
        assert ends[quick] > 0.1
        assert ends[slow] > 0.5
        assert ran[past] < 0.4
        assert ran[quick] < 0.4
        assert ran[slow] < 1
        peer.end_when_closed()


async def test_waiting_for_the_window_ends_as_well_and_the_place_is_not_lost(
    server: ScriptedServer, client: hc.Server, stopwatch: Stopwatch
) -> None:
    server.tiny = TinyServer(window=1)
    async with client.stream() as stream:
        peer = await server.accept()
        first = await stream.submit("m", {"x": X}, outputs=[])
        stopwatch.start()
        refused = await stream.submit("m", {"x": X}, outputs=[], keep=["z"], timeout=0.1)
        with pytest.raises(hc.DeadlineExceeded, match=r"no place in the window of .* within 0\.1 s"):
            await refused
        assert stopwatch.ran() < 0.5
        assert stream.in_flight == 1
        refused.cancel()
        refused.release()
        with pytest.raises(hc.InvalidArgument, match="complex"):
            await stream.submit("m", {"x": np.zeros(1, complex)}, timeout=0.1)
        await peer.commands(1)
        await peer.done(first.tag)
        second = await stream.submit("m", {"x": X}, outputs=[], timeout=30)
        await peer.commands(1)
        await peer.done(second.tag)
        assert await second == {}
        peer.end_when_closed()


async def test_a_stream_to_a_silent_server_can_be_left(
    server: ScriptedServer, client: hc.Server, stopwatch: Stopwatch
) -> None:
    async with client.stream() as stream:
        await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[], timeout=0.1)
    assert stopwatch.ran() < 4
    with pytest.raises(hc.DeadlineExceeded):
        await ticket


async def test_timeouts_that_do_not_pass_cost_no_timer_each(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    loop = asyncio.get_running_loop()
    async with client.stream() as stream:
        timers = 0
        call_at = loop.call_at

        def counted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_at(*arguments, **options)

        loop.call_at = counted  # type: ignore[method-assign,assignment]  # to see what is asked of the loop
        for _ in range(200):
            await (await stream.submit("m", {"x": X}, outputs=["y"], timeout=60))
        assert timers <= 2
