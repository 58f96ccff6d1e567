"""Measures the client against an echo: first in the process, without a transport, then over gRPC in each protocol and
mode.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from headrace.client.load.callers.caller import Answer, Caller, Inputs, Request
from headrace.client.load.callers.connect import connect_callers
from headrace.client.load.callers.departure import Departure
from headrace.client.load.planning.phases import ClosedLoop, Phase
from headrace.client.load.planning.schedule import WHOLE
from headrace.client.load.record.run import Mode, Protocol
from headrace.client.load.record.samples import SampleCollector, ServerTimes
from headrace.client.load.self_test.echo import MAX_MESSAGE_BYTES, serve
from headrace.client.load.sending.pacer import new_precise_loop
from headrace.client.load.sending.run_phase import run_phase
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.wire.errors import Internal

CONCURRENCY = 64
MEASURED_SECONDS, WARMUP_SECONDS = 1.0, 0.3
COMBINATIONS: Sequence[tuple[Protocol, Mode]] = (
    ("headrace", "stream"),
    ("headrace", "unary"),
    ("oip", "stream"),
    ("oip", "unary"),
)
INPUTS: Inputs = {name: np.ones((1, 16), np.float32) for name in ("x", "y")}
REQUEST = Request("echo", "", outputs=None)


class Cost(NamedTuple):
    """The processor time in seconds that a request costs one client process."""

    name: str
    seconds: float


class EchoCaller:
    """Answers in the process, after one turn of the event loop."""

    outage_seconds = 0.0

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        departure.sent = time.perf_counter()
        await asyncio.sleep(0)
        return Answer(departure.sent, time.perf_counter(), 0, "", ServerTimes())


def measure_costs() -> list[Cost]:
    """Measure for about eight seconds, in processes of their own as in a load test. Raises Internal."""
    context = multiprocessing.get_context("spawn")
    echo, echo_end = context.Pipe()
    results, measuring_end = context.Pipe()
    serving = context.Process(target=serve, args=(echo_end,), daemon=True)
    serving.start()
    measuring = context.Process(target=_measure, args=(measuring_end, echo.recv()), daemon=True)
    measuring.start()
    # With our copies closed, a pipe ends when its process does.
    echo_end.close()
    measuring_end.close()
    try:
        found: list[Cost] = results.recv()
    except EOFError:
        raise Internal("the self-test failed: the measuring process ended early") from None
    finally:
        measuring.join()
        echo.close()
        serving.join()
    return found


def _measure(parent: Connection, target: str) -> None:
    with asyncio.Runner(loop_factory=partial(new_precise_loop, 1)) as runner:
        parent.send(runner.run(_costs(ConnectionSettings(target=target, max_message_bytes=MAX_MESSAGE_BYTES))))


async def _costs(settings: ConnectionSettings) -> list[Cost]:
    found = [Cost("planning and recording, no transport", await _cost([EchoCaller()]))]
    for protocol, mode in COMBINATIONS:
        connecting = connect_callers(settings, protocol, mode, 1, CONCURRENCY, REQUEST)
        async with connecting as callers:
            found.append(Cost(f"everything, --protocol {protocol} --mode {mode}", await _cost(callers)))
    return found


async def _cost(callers: Sequence[Caller]) -> float:
    phase = Phase(ClosedLoop(CONCURRENCY), WARMUP_SECONDS, MEASURED_SECONDS)
    collector, inputs, stop = SampleCollector(), itertools.repeat(INPUTS), asyncio.Event()
    start = time.perf_counter() + WARMUP_SECONDS
    running = asyncio.create_task(run_phase(phase, WHOLE, 0, start, callers, CONCURRENCY, inputs, collector, 1.0, stop))
    await asyncio.sleep(max(start - time.perf_counter(), 0))
    collector.take()
    spent = -time.process_time()
    await running
    spent += time.process_time()
    samples = collector.take()
    failed = int(np.count_nonzero(samples.code))
    if failed or not samples.count:
        raise RuntimeError(f"{failed} of {samples.count} requests to the echo failed")
    return spent / samples.count
