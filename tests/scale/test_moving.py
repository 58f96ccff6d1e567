"""Workers that are new get streams and calls of clients that are old: both streams and connections have an age."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import comb
from pathlib import Path

import grpc.aio
import pytest

import headrace.client as hc
from headrace.client import blocking
from tests import models
from tests.e2e.serving import Serve, Served
from tests.scale.lone_calls import OPTIONS, Calls, native, oip
from tests.scale.numbers import Numbers, at
from tests.scale.processes import pids_of, wait_until

AGE = 4.0
"""Of streams, in seconds."""
STREAMS, CALLERS = 40, 12
"""Each has a connection of its own. There are callers of both protocols."""
RATE = 100.0
"""Numbers a second over all streams."""
UNLIKELY = 1e-5
CALLS = 40
"""Of each caller, while the share of each worker is looked at."""


def least_of(count: int) -> int:
    """How few of so many connections come to one of two workers: fewer do once in 100,000 times.

    The kernel draws a worker for each, so they are as heads of coins.
    """
    chance, few = 0.0, 0
    while (chance := chance + 2 * comb(count, few) / 2**count) < UNLIKELY:
        few += 1
    return few


@pytest.mark.timeout(240)
async def test_streams_and_calls_are_even_again_within_two_ages_of_a_restart(serve: Serve, tmp_path: Path) -> None:
    """One of two workers is killed, so the other has everything. None of its clients is told anything else."""
    served = serve(f"scale={models.scale(tmp_path)}", "--workers=2", f"--stream-seconds={AGE:g}")
    moves: list[tuple[float, int, hc.Resumed]] = []
    numbers, stop, calls_stop, loop = Numbers(RATE), asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:

        async def stream(number: int) -> hc.Stream:
            server = await stack.enter_async_context(hc.connect(served.address))
            note = lambda resumed: moves.append((loop.time(), number, resumed))  # noqa: E731
            return await stack.enter_async_context(server.stream(resume=True, on_resume=note))

        streams = [await stream(number) for number in range(STREAMS)]
        assert min(homes(streams)) >= least_of(STREAMS)
        sending = tasks.create_task(numbers.send(streams, stop))
        asks = [native(await stack.enter_async_context(hc.connect(served.address))) for _ in range(CALLERS)]
        channels = [grpc.aio.insecure_channel(served.address, OPTIONS) for _ in range(CALLERS)]
        asks += [oip(await stack.enter_async_context(channel)) for channel in channels]
        callers = [Calls() for _ in asks]
        for calls, ask in zip(callers, asks, strict=True):
            tasks.create_task(calls.make(ask, calls_stop, pause=0.02))

        os.kill(pids_of(served.process.pid)[0], signal.SIGKILL)
        await asyncio.to_thread(wait_until, lambda: " is back" in served.log, "replaced")
        began, failed = loop.time(), sum(calls.failed.total() for calls in callers)
        before = homes(streams)
        # Each stream has a connection of its own, so once it has moved its worker has been drawn anew.
        while {number for time, number, each in moves if time > began and each.moved} != {*range(STREAMS)}:
            assert loop.time() < began + 2 * AGE, f"{homes(streams)} {2 * AGE:g} s later"
            await asyncio.sleep(0.01)
        took, after = loop.time() - began, homes(streams)
        stop.set()
        await sending
        shares = await asyncio.to_thread(shares_of_calls, served, callers)
        assert sum(calls.failed.total() for calls in callers) == failed  # a connection that is old loses nothing
        calls_stop.set()
    numbers.check()
    stalls = [each.seconds for time, _, each in moves if time > began]
    print(
        f"\n{STREAMS} streams: {before} when the worker was back, {after} {took / AGE:.2f} ages later; {len(stalls)} "
        f"moves, without a stream {at(stalls, 0.5)}, at most {at(stalls, 1)}; {sum(calls.done for calls in callers)} "
        f"calls of {len(callers)} callers, of which the workers get {shares[0]:.0%} and {shares[1]:.0%}; 0 of "
        f"{numbers.sent} numbers lost"
    )
    assert len(after) == 2
    assert min(after) >= least_of(STREAMS)
    assert min(shares) >= 0.9 * least_of(2 * CALLERS) / (2 * CALLERS)
    assert "Traceback" not in served.log


def homes(streams: Sequence[hc.Stream]) -> list[int]:
    """How many of the streams each worker has that has any."""
    return sorted(Counter(stream.hello.instance for stream in streams).values())


def shares_of_calls(served: Served, callers: Sequence[Calls]) -> list[float]:
    """The part of the inferences that each worker has while every caller has made some calls."""

    def look() -> list[int]:
        with blocking.connect(served.address) as server:
            return [worker.inferences for worker in server.status().workers]

    before, enough = look(), [calls.done + CALLS for calls in callers]
    wait_until(lambda: all(calls.done >= then for calls, then in zip(callers, enough, strict=True)), "called")
    found = [after - then for after, then in zip(look(), before, strict=True)]
    return [count / sum(found) for count in found]
