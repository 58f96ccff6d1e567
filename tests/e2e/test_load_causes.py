"""Whom a load test blames: servers that are killed, that stall, that are overloaded; and a busy client."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from headrace.client.load.callers.caller import Answer, Caller, Inputs, Request
from headrace.client.load.callers.departure import Departure
from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.planning.schedule import WHOLE
from headrace.client.load.record.run import Mode, Outcome, Protocol
from headrace.client.load.record.samples import SampleCollector
from headrace.client.load.report.summary import Summary, summarise
from headrace.client.load.sending.pacer import PreciseEventLoop
from headrace.client.load.sending.run_phase import run_phase
from headrace.client.load.workers.messages import Job, PhaseStarted, RunEvent
from headrace.client.load.workers.pool import WorkerPool
from headrace.client.protocol.connection_settings import ConnectionSettings
from tests import models
from tests.client.load.scripted_oip_server import ScriptedOipServer, scripted_oip_server
from tests.client.load.single_caller import single_caller
from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Serve

WAYS: list[tuple[Protocol, Mode]] = [
    ("headrace", "stream"),
    ("headrace", "unary"),
    ("oip", "stream"),
    ("oip", "unary"),
]


def job_for(target: str, protocol: Protocol, mode: Mode, model: str, phase: Phase, window: int = 256) -> Job:
    return Job(
        connection=ConnectionSettings(target=target),
        protocol=protocol,
        mode=mode,
        request=Request(model, ""),
        streams=1,
        window=window,
        processes=1,
        phases=(phase,),
        seed=1,
        patience=1.0,
    )


async def measured(job: Job, started: asyncio.Future[float] | None = None) -> tuple[Outcome, Summary]:
    """The outcome of the only phase; `started` gets the moment at which it has begun."""

    def on_event(event: RunEvent) -> None:
        if started is not None and isinstance(event, PhaseStarted):
            started.set_result(event.start)

    (outcome,) = await WorkerPool(job, on_event).run()
    return outcome, summarise(outcome)


def words(summary: Summary) -> str:
    return "; ".join(summary.warnings)


@retried_if_disturbed
async def test_a_killed_server_is_a_lost_connection(serve: Serve, tmp_path: Path) -> None:
    """20/s for eight seconds, in which the server of all four runs is killed; they need not begin at the same time."""
    served = serve(f"am={models.add_multiply(tmp_path)}")
    loop, phase = asyncio.get_running_loop(), Phase(OpenLoop(20, 20), 0.0, 8.0)
    starts = [loop.create_future() for _ in WAYS]
    runs = [
        asyncio.create_task(measured(job_for(served.address, *way, "am", phase), start))
        for way, start in zip(WAYS, starts, strict=True)
    ]
    begun = await asyncio.gather(*starts)
    await asyncio.sleep(max(begun) + 1.5 - time.perf_counter())
    killed = time.perf_counter()
    served.process.kill()
    await asyncio.to_thread(served.process.wait)
    gone = time.perf_counter() + 0.1
    for way, start, (outcome, summary) in zip(WAYS, begun, await asyncio.gather(*runs), strict=True):
        assert summary.planned == 160, way
        # What was sent before the server was killed has left this client, and nothing after it was gone.
        assert (killed - start) * 20 - 3 <= summary.sent <= (gone - start) * 20 + 3, way
        assert summary.unsent == 160 - summary.sent, way
        assert summary.ok <= summary.sent, way
        sent = outcome.samples.sent[np.isfinite(outcome.samples.sent)]
        assert sent.max() <= gone - start, way
        unconnected = summary.delays.connection
        assert unconnected.requests == pytest.approx(summary.unsent, abs=3), way
        # Until the plan was over, or until patience ended a second later.
        waits = [8 - at / 20 for at in range(summary.sent, 160)]
        assert 0.9 * sum(waits) <= unconnected.seconds <= 1.1 * (sum(waits) + len(waits)), way
        assert summary.delays.window.requests == 0, way
        assert summary.delays.processor.seconds < 0.1 * unconnected.seconds, way
        assert f"{unconnected.requests} requests had no connection to the server" in words(summary), way
        assert "client" not in words(summary), way
        assert set(summary.errors) <= {"UNAVAILABLE"}, way
        assert summary.latency is not None
        assert {"p90", "max"} <= summary.latency.at_least, way
        assert summary.answered is not None
        assert not summary.answered.at_least, way


@pytest.mark.parametrize("mode", ["stream", "unary"])
@retried_if_disturbed
async def test_a_stall_behind_a_window_of_four_is_the_windows(mode: Mode) -> None:
    """100/s for 3 s; the four requests from 1 s on take 1.4 s, and what is due meanwhile waits for room."""
    server = ScriptedOipServer(lambda number: 1.4 if 100 <= number < 104 else 0.0)
    async with scripted_oip_server(server):
        job = job_for(server.target, "oip", mode, "echo", Phase(OpenLoop(100, 100), 0.0, 3.0), window=4)
        _, summary = await measured(job)
    assert summary.planned == summary.sent + summary.unsent == 300
    waits = [2.4 - (1.04 + at / 100) for at in range(136)]
    # Until there is room again, and then while the backlog is sent, which takes as long as the server does.
    assert summary.delays.window.seconds >= 0.95 * sum(waits)
    assert summary.delays.window.requests >= 130
    assert summary.delays.connection.requests == 0
    assert summary.delays.processor.seconds < 0.05 * summary.delays.window.seconds
    assert "requests had to wait because the window was full" in words(summary)
    assert "client" not in words(summary)
    assert summary.breakdown is not None
    assert summary.breakdown.window >= 0.95 * sum(waits) / 300


@retried_if_disturbed
async def test_a_server_at_twice_its_capacity_is_what_limits_the_rate(serve: Serve, tmp_path: Path) -> None:
    # With one thread, a processor is left for the client.
    served = serve(f"slow={models.slow(tmp_path, 4)}", "--property=INFERENCE_NUM_THREADS=1")
    _, most = await measured(job_for(served.address, "headrace", "stream", "slow", Phase(ClosedLoop(4), 0.3, 1.5)))
    # Well over twice its capacity, whatever else the machine does meanwhile.
    rate = max(round(4 * most.throughput), 40)
    phase = Phase(OpenLoop(rate, rate), 0.0, 2.0)
    for way in WAYS:
        _, summary = await measured(job_for(served.address, *way, "slow", phase, window=4))
        assert summary.planned == 2 * rate, way
        assert summary.plan_kept < 50, way
        assert "the server handled only" in words(summary), way
        assert "had to wait because the window was full" in words(summary), way
        assert "client" not in words(summary), way
        delays = summary.delays
        assert delays.window.requests >= 0.9 * (summary.late + summary.unsent), way
        assert delays.processor.seconds < 0.05 * delays.window.seconds, way
    # With room for all of them, every request is sent when it is due, and waits in the server.
    _, summary = await measured(job_for(served.address, "headrace", "stream", "slow", phase))
    assert (summary.sent, summary.unsent) == (2 * rate, 0)
    # If other programs took the processors, that is said instead.
    assert "the server handled only" in words(summary) or "this machine was too busy" in words(summary)
    assert "client sent only" not in words(summary)


@retried_if_disturbed
async def test_the_smaller_window_of_a_server_is_a_window_too(serve: Serve, tmp_path: Path) -> None:
    """The server lets a stream have two requests in flight, whatever the load test would like."""
    served = serve(f"slow={models.slow(tmp_path, 4)}", "--window=2")
    job = job_for(served.address, "headrace", "stream", "slow", Phase(ClosedLoop(8), 0.0, 2.0))
    _, summary = await measured(job)
    assert summary.delays.window.requests >= 0.8 * summary.late > 0
    assert summary.delays.processor.seconds < 0.05 * summary.delays.window.seconds
    assert "client" not in words(summary)


@retried_if_disturbed
def test_a_client_with_a_busy_processor_is_to_blame() -> None:
    """400/s are planned, and the client computes for 5 ms before it sends each of them: it can send 200/s."""

    class BusyCaller:
        def __init__(self, caller: Caller) -> None:
            self._caller = caller

        @property
        def outage_seconds(self) -> float:
            return self._caller.outage_seconds

        async def call(self, inputs: Inputs, departure: Departure) -> Answer:
            until = time.perf_counter() + 0.005
            while time.perf_counter() < until:
                pass
            return await self._caller.call(inputs, departure)

    async def run(loop: PreciseEventLoop) -> Summary:
        phase, collector, stop = Phase(OpenLoop(400, 400), 0.0, 1.5), SampleCollector(), asyncio.Event()
        inputs = itertools.repeat({"x": np.ones((1, 16), np.float32)})
        async with (
            scripted_oip_server(ScriptedOipServer(lambda _: 0.0)) as server,
            single_caller(server.target, "oip", "unary", window=256) as caller,
        ):
            callers, start = [BusyCaller(caller)], time.perf_counter() + 0.1
            # As if this process had a processor all the time: what it has to share with others is not the question.
            result = await run_phase(
                phase,
                WHOLE,
                1,
                start,
                callers,
                256,
                inputs,
                collector,
                1.0,
                stop,
                idle=loop.idle_seconds,
                used=time.perf_counter,
            )
        tails = () if result.tail is None else (result.tail,)
        return summarise(Outcome(phase, result.planned, result.unsent, result.elapsed, collector.take(), tails=tails))

    loop = PreciseEventLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        summary = runner.run(run(loop))
    assert summary.rate_sent < 220
    assert summary.delays.processor.requests >= 0.9 * summary.delays.requests
    assert summary.delays.processor.seconds > 2 * (summary.delays.window.seconds + summary.delays.connection.seconds)
    assert "this client was too slow" in words(summary)
    assert "this client sent only" in words(summary)
    assert "server" not in words(summary)
