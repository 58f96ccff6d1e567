"""Worker processes together: the outcome of a run, and that none is left behind when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.client.load.callers.caller import Request
from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.record.run import Outcome, ServerMeans
from headrace.client.load.record.samples import Sample, SampleCollector, Samples, ServerTimes
from headrace.client.load.sending.run_phase import ShareResult
from headrace.client.load.workers.messages import (
    Job,
    PhaseFinished,
    PhaseStarted,
    RunDescription,
    RunEvent,
    SampleBatch,
    WorkerFinished,
)
from headrace.client.load.workers.pool import WorkerPool, merge_results
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import Code, Internal, NotFound
from tests.client.load.scripted_oip_server import ScriptedOipServer, scripted_oip_server
from tests.client.load.worker_jobs import ENDLESS, JOB
from tests.disturbances import retried_if_disturbed


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOipServer]:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        yield server


def job_for(server: ScriptedOipServer, **changes: Any) -> Job:
    return replace(JOB, connection=ConnectionSettings(target=server.target), **changes)


async def run(job: Job) -> tuple[list[Outcome], list[RunEvent]]:
    events: list[RunEvent] = []
    return await WorkerPool(job, events.append).run(), events


def children() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children()]


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a process, which need not be our child, exits within this time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


@retried_if_disturbed
async def test_workers_follow_the_plan_together(capfd: pytest.CaptureFixture[str]) -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        (outcome,), events = await run(job_for(server))
    assert (outcome.planned, outcome.unsent, outcome.interrupted) == (200, 0, False)
    assert outcome.samples.count == 200
    assert not outcome.samples.code.any()
    # Each moment of the plan occurs once, as the workers share time 0.
    assert np.sort(outcome.samples.intended) == pytest.approx(np.arange(200) / 200)
    assert (outcome.samples.sent >= outcome.samples.intended).all()
    assert (outcome.samples.ended > outcome.samples.sent).all()
    assert 0.995 <= outcome.elapsed < 2
    assert server.count == 220  # with a tenth of a second of warm-up
    assert len(server.peers) == 3
    assert len({request.raw_input_contents[0] for request in server.requests}) == 8
    assert children() == []
    assert capfd.readouterr() == ("", "")

    assert isinstance(events[0], RunDescription)
    assert (events[0].model.name, events[0].server, events[0].inputs) == (
        "echo",
        "scripted 7",
        ("x FP32[1,16] random",),
    )
    assert isinstance(events[1], PhaseStarted)
    batches = [each for each in events if isinstance(each, SampleBatch)]
    assert sum(each.samples.count for each in batches) == 200
    assert len(batches) >= 10
    assert events[-1] == PhaseFinished(0, outcome, 0)


@retried_if_disturbed
async def test_server_statistics_of_a_phase_are_in_its_outcome() -> None:
    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        (outcome,), _ = await run(job_for(server))
    assert outcome.server is not None
    assert outcome.server.count == pytest.approx(200, abs=20)
    assert (outcome.server.queue, outcome.server.compute) == pytest.approx((0.00025, 0.00075))


async def test_phases_follow_each_other(server: ScriptedOipServer) -> None:
    phases = tuple(Phase(ClosedLoop(load), 0.0, None, count) for load, count in ((1, 5), (4, 40), (2, 11)))
    outcomes, events = await run(job_for(server, phases=phases, mode="unary"))
    assert [outcome.phase for outcome in outcomes] == [*phases]
    assert [(outcome.planned, outcome.samples.count) for outcome in outcomes] == [(5, 5), (40, 40), (11, 11)]
    assert server.count == 56
    began = [each.start for each in events if isinstance(each, PhaseStarted)]
    assert began == sorted(began)


async def test_each_phase_is_chosen_by_the_outcomes_before(server: ScriptedOipServer) -> None:
    def next_phase(outcomes: Sequence[Outcome]) -> Phase | None:
        counts = [outcome.samples.count for outcome in outcomes]
        return Phase(ClosedLoop(2), 0.0, None, 2 * counts[-1] if counts else 5) if sum(counts) < 30 else None

    events: list[RunEvent] = []
    outcomes = await WorkerPool(job_for(server), events.append, next_phase).run()
    assert [outcome.samples.count for outcome in outcomes] == [5, 10, 20]
    assert [each.plan for each in events if isinstance(each, PhaseStarted)] == [each.phase for each in outcomes]


async def test_a_load_that_is_repeated_has_other_random_arrivals(server: ScriptedOipServer) -> None:
    phase = Phase(OpenLoop(200, 200, "poisson"), 0.0, None, 20)
    (first, second), _ = await run(job_for(server, phases=(phase, phase)))
    (again, _), _ = await run(job_for(server, phases=(phase, phase)))
    due = [sorted(each.samples.intended.tolist()) for each in (first, second, again)]
    assert due[0] == due[2] != due[1]


async def test_failures_are_samples_except_in_the_warmup_where_they_are_counted(server: ScriptedOipServer) -> None:
    phase = Phase(OpenLoop(50, 50), 0.2, None, 20)
    (outcome,), events = await run(job_for(server, request=Request("failing", ""), mode="unary", phases=(phase,)))
    assert outcome.samples.code.tolist() == [Code.INVALID_ARGUMENT] * 20
    assert outcome.messages == {Code.INVALID_ARGUMENT: "model failing has failed"}
    assert events[-1] == PhaseFinished(0, outcome, 10)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"request": Request("other", "")}, NotFound, "no model other"),
        ({"inputs": ("z=random",)}, UsageError, "model 'echo' has no input 'z'"),
        ({"request": Request("echo", "", keep=("y",))}, UsageError, "--keep requires --protocol headrace"),
    ],
)
async def test_a_job_that_cannot_start_is_an_error(
    server: ScriptedOipServer,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(error, match=message):
        await run(job_for(server, **changes))
    assert server.count == 0
    assert children() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["stream", "unary"])
@retried_if_disturbed
async def test_a_server_that_disappears_is_recorded_and_nothing_is_printed(
    mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = asyncio.Event()

    def on_event(event: RunEvent) -> None:
        if isinstance(event, SampleBatch) and event.samples.count:
            seen.set()

    async with scripted_oip_server(ScriptedOipServer(lambda _: 0.001)) as server:
        job = job_for(server, mode=mode, phases=(Phase(OpenLoop(100, 100), 0.0, 1.5),))
        running = asyncio.create_task(WorkerPool(job, on_event).run())
        await seen.wait()
    (outcome,) = await running
    assert outcome.samples.count == outcome.planned == 150
    codes = outcome.samples.code[np.argsort(outcome.samples.intended)]
    assert codes[0] == 0
    assert codes[-1] == Code.UNAVAILABLE
    assert outcome.messages[Code.UNAVAILABLE]
    assert capfd.readouterr() == ("", "")


async def test_a_killed_worker_ends_the_run(server: ScriptedOipServer) -> None:
    victims: list[int] = []

    def kill(event: RunEvent) -> None:
        if isinstance(event, SampleBatch) and not victims:
            victims.append(children()[1])
            os.kill(victims[0], signal.SIGKILL)

    with pytest.raises(Internal) as raised:
        await WorkerPool(job_for(server, phases=ENDLESS), kill).run()
    assert raised.value.message == f"process {victims[0]} of the load test was killed by SIGKILL"
    assert children() == []


async def test_a_worker_that_dies_before_it_is_ready_ends_the_run(server: ScriptedOipServer) -> None:
    pool = WorkerPool(job_for(server), lambda _: None)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(0)
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(Internal, match="was killed by SIGKILL"):
        await running
    assert children() == []


async def test_a_stop_ends_the_run_early(server: ScriptedOipServer) -> None:
    def stop(event: RunEvent) -> None:
        if isinstance(event, SampleBatch) and event.samples.count:
            pool.stop()

    pool = WorkerPool(job_for(server, phases=ENDLESS), stop)
    (outcome,) = await pool.run()
    assert outcome.interrupted
    assert 0 < outcome.samples.count == outcome.planned - outcome.unsent == server.count
    assert outcome.elapsed < 10
    assert outcome.server is not None
    assert children() == []


async def test_a_stop_before_the_first_phase_gives_no_outcome(server: ScriptedOipServer) -> None:
    events: list[RunEvent] = []
    pool = WorkerPool(job_for(server, phases=ENDLESS), events.append)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(0)
    pool.stop()
    assert await running == []
    assert events == []
    assert children() == []


async def test_a_cancelled_pool_leaves_no_process_behind(server: ScriptedOipServer) -> None:
    began = asyncio.Event()
    running = asyncio.create_task(WorkerPool(job_for(server, phases=ENDLESS), lambda _: began.set()).run())
    await began.wait()
    pids = children()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(pids) == 2
    assert children() == []


PARENT = """
import asyncio, json, signal, sys
from multiprocessing import active_children
from dataclasses import replace
from headrace.client.load.workers.messages import PhaseStarted
from headrace.client.load.workers.pool import WorkerPool
from headrace.client.protocol.connection_settings import ConnectionSettings
from tests.client.load.worker_jobs import ENDLESS, JOB

async def main():
    def on_event(event):
        if isinstance(event, PhaseStarted):
            print(json.dumps([child.pid for child in active_children()]), flush=True)
    pool = WorkerPool(replace(JOB, connection=ConnectionSettings(target=sys.argv[1]), phases=ENDLESS), on_event)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, pool.stop)
    (outcome,) = await pool.run()
    print(json.dumps(outcome.interrupted))

if __name__ == "__main__":
    asyncio.run(main())
"""


@asynccontextmanager
async def parent_of_two(server: ScriptedOipServer) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[int]]]:
    """A parent in a process group of its own, whose phase has started, and the pids of its workers. All end here."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        server.target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        yield parent, json.loads(await parent.stdout.readline())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        await parent.communicate()  # to the end of the pipes, which the workers have too


async def test_workers_of_a_killed_parent_exit_by_themselves(server: ScriptedOipServer) -> None:
    async with parent_of_two(server) as (parent, pids):
        parent.kill()
        await parent.wait()
        assert len(pids) == 2
        assert all([await asyncio.to_thread(ends_within, pid, 30) for pid in pids])


async def test_ctrl_c_reaches_only_the_parent(server: ScriptedOipServer) -> None:
    async with parent_of_two(server) as (parent, pids):
        os.killpg(parent.pid, signal.SIGINT)  # like a terminal
        assert await parent.communicate() == (b"true\n", b"")
        assert parent.returncode == 0
        assert [ends_within(pid, 0) for pid in pids] == [True, True]


class TestMergeResults:
    phase = Phase(ClosedLoop(2), 0.0, 1.0)

    def of(self, *ends: WorkerFinished, interrupted: bool = False) -> Outcome:
        return merge_results(self.phase, ends, samples(1.0, 2.0, 3.0), interrupted=interrupted)

    def test_results_are_added_up(self) -> None:
        outcome = self.of(
            WorkerFinished(0, ShareResult(5, 1, 1.5, {2: "first"}, 0), ServerMeans(4, 0.1, 0.2)),
            WorkerFinished(0, ShareResult(7, 2, 1.2, {2: "second", 4: "late"}, 0), None),
        )
        assert (outcome.planned, outcome.unsent, outcome.elapsed) == (12, 3, 1.5)
        assert outcome.messages == {2: "first", 4: "late"}
        assert outcome.server == ServerMeans(4, 0.1, 0.2)
        assert outcome.samples.intended.tolist() == [1, 2, 3]
        assert not outcome.interrupted

    def test_a_merged_outcome_adds_nothing(self) -> None:
        outcome = self.of(WorkerFinished(0, ShareResult(0, 0, 0.0, {}, 0), None), interrupted=True)
        assert outcome.server is None
        assert outcome.messages == {}
        assert outcome.interrupted


def samples(*moments: float) -> Samples:
    collector = SampleCollector()
    for moment in moments:
        collector.add(Sample(moment, moment, moment, 0, ServerTimes()))
    return collector.take()
