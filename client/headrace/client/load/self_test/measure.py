"""Measures the client against an echo: first one in the process, without a transport, then one over gRPC each way."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from headrace.client.load.attack import attack
from headrace.client.load.calling import Answer, Caller, Inputs, Request
from headrace.client.load.calling.opening import open_callers
from headrace.client.load.pacer import precise_loop
from headrace.client.load.plan import WHOLE
from headrace.client.load.run import ClosedLoop, Mode, Phase, Protocol
from headrace.client.load.samples import Collector, Times
from headrace.client.load.self_test.echo import MAX_MESSAGE_BYTES, serve
from headrace.wire.errors import Internal

CONCURRENCY = 64
SECONDS, WARMUP = 1.0, 0.3
WAYS: Sequence[tuple[Protocol, Mode]] = (
    ("headrace", "stream"),
    ("headrace", "unary"),
    ("oip", "stream"),
    ("oip", "unary"),
)
INPUTS: Inputs = {name: np.ones((1, 16), np.float32) for name in ("x", "y")}
REQUEST = Request("echo", "", outputs=None)


class Cost(NamedTuple):
    """Seconds of processor time that a request costs one client process."""

    what: str
    seconds: float


class EchoCaller:
    """Answers in the process, after one turn of the event loop."""

    async def call(self, inputs: Inputs) -> Answer:
        sent = time.perf_counter()
        await asyncio.sleep(0)
        return Answer(sent, time.perf_counter(), 0, "", Times())


def costs() -> list[Cost]:
    """Takes about eight seconds. Everything happens in processes of its own, as in a load test. Raises Internal."""
    context = multiprocessing.get_context("spawn")
    echo, of_echo = context.Pipe()
    results, of_measuring = context.Pipe()
    serving = context.Process(target=serve, args=(of_echo,), daemon=True)
    serving.start()
    measuring = context.Process(target=_measure, args=(of_measuring, echo.recv()), daemon=True)
    measuring.start()
    # Ours are closed, so that the end of a process is the end of its pipe.
    of_echo.close()
    of_measuring.close()
    try:
        found: list[Cost] = results.recv()
    except EOFError:
        raise Internal("the self-test has failed: the process that measures ended before it was done") from None
    finally:
        measuring.join()
        echo.close()
        serving.join()
    return found


def _measure(parent: Connection, target: str) -> None:
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        parent.send(runner.run(_costs(target)))


async def _costs(target: str) -> list[Cost]:
    found = [Cost("planning and recording, without a transport", await _cost([EchoCaller()]))]
    for protocol, mode in WAYS:
        way = open_callers(target, protocol, mode, 1, CONCURRENCY, REQUEST, MAX_MESSAGE_BYTES)
        async with way as callers:
            found.append(Cost(f"all, --protocol {protocol} --mode {mode}", await _cost(callers)))
    return found


async def _cost(callers: Sequence[Caller]) -> float:
    phase = Phase(ClosedLoop(CONCURRENCY), WARMUP, SECONDS)
    collector, inputs, stop = Collector(), itertools.repeat(INPUTS), asyncio.Event()
    begin = time.perf_counter() + WARMUP
    running = asyncio.create_task(attack(phase, WHOLE, 0, begin, callers, CONCURRENCY, inputs, collector, 1.0, stop))
    await asyncio.sleep(max(begin - time.perf_counter(), 0))
    collector.take()
    spent = -time.process_time()
    await running
    spent += time.process_time()
    samples = collector.take()
    failed = int(np.count_nonzero(samples.code))
    if failed or not samples.count:
        raise RuntimeError(f"{failed} of {samples.count} requests to the echo have failed")
    return spent / samples.count
