"""Processes that attack together: what comes of it in all, and what is left when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.client.load.attack import Part
from headrace.client.load.calling import Request
from headrace.client.load.crew import Crew, merged
from headrace.client.load.orders import Batch, Began, Described, Job, News, Over, PhaseOver
from headrace.client.load.run import ClosedLoop, OpenLoop, Outcome, Phase, Server
from headrace.client.load.samples import Collector, Sample, Samples, Times
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import Code, Internal, NotFound
from tests.client.load.oip_server import OipServer, oip_server

JOB = Job(
    target="",
    protocol="oip",
    mode="stream",
    request=Request("echo", ""),
    streams=3,
    window=64,
    processes=2,
    phases=(Phase(OpenLoop(200, 200), warmup=0.1, duration=1.0),),
    seed=1,
    max_message_bytes=64 << 20,
    patience=5.0,
)
ENDLESS = (Phase(OpenLoop(100, 100), 0.0, 3600.0), Phase(OpenLoop(100, 100), 0.0, 3600.0))


@pytest.fixture
async def server() -> AsyncIterator[OipServer]:
    async with oip_server(OipServer(lambda _: 0.001)) as server:
        yield server


def job_for(server: OipServer, **changes: Any) -> Job:
    return replace(JOB, target=server.target, **changes)


async def run(job: Job) -> tuple[list[Outcome], list[News]]:
    news: list[News] = []
    return await Crew(job, news.append).run(), news


def children() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children()]


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a process, of whomever it is a child, is gone by then."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


async def test_together_they_keep_the_plan(server: OipServer, capfd: pytest.CaptureFixture[str]) -> None:
    (outcome,), news = await run(job_for(server))
    assert (outcome.planned, outcome.unsent, outcome.interrupted) == (200, 0, False)
    assert outcome.samples.count == 200
    assert not outcome.samples.code.any()
    # Each moment of the plan once: they share time 0.
    assert np.sort(outcome.samples.intended) == pytest.approx(np.arange(200) / 200)
    assert (outcome.samples.sent >= outcome.samples.intended).all()
    assert (outcome.samples.ended > outcome.samples.sent).all()
    assert 0.995 <= outcome.elapsed < 2
    assert server.count == 220  # a tenth of a second before
    assert len(server.peers) == 3
    assert len({request.raw_input_contents[0] for request in server.requests}) == 8
    assert children() == []
    assert capfd.readouterr() == ("", "")

    assert isinstance(news[0], Described)
    assert (news[0].model.name, news[0].server, news[0].inputs) == (
        "echo",
        "scripted 7",
        ("x FP32[1,16] random",),
    )
    assert isinstance(news[1], Began)
    batches = [each for each in news if isinstance(each, Batch)]
    assert sum(each.samples.count for each in batches) == 200
    assert len(batches) >= 10
    assert news[-1] == PhaseOver(0, outcome, 0)


async def test_the_server_is_asked_for_what_it_tells_of_a_phase(server: OipServer) -> None:
    (outcome,), _ = await run(job_for(server))
    assert outcome.server is not None
    assert outcome.server.count == pytest.approx(200, abs=20)
    assert (outcome.server.queue, outcome.server.compute) == pytest.approx((0.00025, 0.00075))


async def test_phases_follow_each_other(server: OipServer) -> None:
    phases = tuple(Phase(ClosedLoop(load), 0.0, None, count) for load, count in ((1, 5), (4, 40), (2, 11)))
    outcomes, news = await run(job_for(server, phases=phases, mode="unary"))
    assert [outcome.phase for outcome in outcomes] == [*phases]
    assert [(outcome.planned, outcome.samples.count) for outcome in outcomes] == [(5, 5), (40, 40), (11, 11)]
    assert server.count == 56
    began = [each.begin for each in news if isinstance(each, Began)]
    assert began == sorted(began)


async def test_failures_are_samples_and_those_of_the_warm_up_are_counted(server: OipServer) -> None:
    phase = Phase(OpenLoop(50, 50), 0.2, None, 20)
    (outcome,), news = await run(job_for(server, request=Request("failing", ""), mode="unary", phases=(phase,)))
    assert outcome.samples.code.tolist() == [Code.INVALID_ARGUMENT] * 20
    assert outcome.messages == {Code.INVALID_ARGUMENT: "model failing has failed"}
    assert news[-1] == PhaseOver(0, outcome, 10)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"request": Request("other", "")}, NotFound, "no model other"),
        ({"inputs": ("z=random",)}, UsageError, "model 'echo' has no input 'z'"),
        ({"request": Request("echo", "", keep=("y",))}, UsageError, "--keep is only for that"),
    ],
)
async def test_what_cannot_begin_is_an_error(
    server: OipServer, changes: dict[str, Any], error: type[Exception], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=said):
        await run(job_for(server, **changes))
    assert server.count == 0
    assert children() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["stream", "unary"])
async def test_a_server_that_goes_is_in_the_samples_and_nothing_is_printed(
    mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = asyncio.Event()

    def tell(news: News) -> None:
        if isinstance(news, Batch) and news.samples.count:
            seen.set()

    async with oip_server(OipServer(lambda _: 0.001)) as server:
        job = job_for(server, mode=mode, phases=(Phase(OpenLoop(100, 100), 0.0, 1.5),))
        running = asyncio.create_task(Crew(job, tell).run())
        await seen.wait()
    (outcome,) = await running
    assert outcome.samples.count == outcome.planned == 150
    codes = outcome.samples.code[np.argsort(outcome.samples.intended)]
    assert codes[0] == 0
    assert codes[-1] == Code.UNAVAILABLE
    assert outcome.messages[Code.UNAVAILABLE]
    assert capfd.readouterr() == ("", "")


async def test_a_process_that_is_killed_ends_all(server: OipServer) -> None:
    victims: list[int] = []

    def kill(news: News) -> None:
        if isinstance(news, Batch) and not victims:
            victims.append(children()[1])
            os.kill(victims[0], signal.SIGKILL)

    with pytest.raises(Internal) as raised:
        await Crew(job_for(server, phases=ENDLESS), kill).run()
    assert raised.value.message == f"process {victims[0]} of the load test was killed by SIGKILL"
    assert children() == []


async def test_a_process_that_has_died_before_it_was_ready(server: OipServer) -> None:
    crew = Crew(job_for(server), lambda _: None)
    running = asyncio.create_task(crew.run())
    await asyncio.sleep(0)
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(Internal, match="was killed by SIGKILL"):
        await running
    assert children() == []


async def test_an_early_end(server: OipServer) -> None:
    def stop(news: News) -> None:
        if isinstance(news, Batch) and news.samples.count:
            crew.stop()

    crew = Crew(job_for(server, phases=ENDLESS), stop)
    (outcome,) = await crew.run()
    assert outcome.interrupted
    assert 0 < outcome.samples.count == outcome.planned - outcome.unsent == server.count
    assert outcome.elapsed < 10
    assert outcome.server is not None
    assert children() == []


async def test_an_end_before_anything_began(server: OipServer) -> None:
    news: list[News] = []
    crew = Crew(job_for(server, phases=ENDLESS), news.append)
    running = asyncio.create_task(crew.run())
    await asyncio.sleep(0)
    crew.stop()
    assert await running == []
    assert news == []
    assert children() == []


async def test_a_crew_that_is_cancelled_leaves_nobody(server: OipServer) -> None:
    began = asyncio.Event()
    running = asyncio.create_task(Crew(job_for(server, phases=ENDLESS), lambda _: began.set()).run())
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
from headrace.client.load.crew import Crew
from tests.client.load.test_crew import ENDLESS, JOB, Began, replace

async def main():
    def tell(news):
        if isinstance(news, Began):
            print(json.dumps([child.pid for child in active_children()]), flush=True)
    crew = Crew(replace(JOB, target=sys.argv[1], phases=ENDLESS), tell)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, crew.stop)
    (outcome,) = await crew.run()
    print(json.dumps(outcome.interrupted))

if __name__ == "__main__":
    asyncio.run(main())
"""


async def parent_of_two(server: OipServer) -> tuple[asyncio.subprocess.Process, list[int]]:
    """A process of another group, which has begun, and the pids of its children."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        server.target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    return parent, json.loads(await parent.stdout.readline())


async def test_children_of_a_parent_that_is_killed_end_by_themselves(server: OipServer) -> None:
    parent, pids = await parent_of_two(server)
    parent.kill()
    await parent.wait()
    assert len(pids) == 2
    assert all([await asyncio.to_thread(ends_within, pid, 10) for pid in pids])


async def test_ctrl_c_is_for_the_parent(server: OipServer) -> None:
    parent, pids = await parent_of_two(server)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    assert await parent.communicate() == (b"true\n", b"")
    assert parent.returncode == 0
    assert [ends_within(pid, 0) for pid in pids] == [True, True]


class TestMerged:
    phase = Phase(ClosedLoop(2), 0.0, 1.0)

    def of(self, *ends: Over, interrupted: bool = False) -> Outcome:
        return merged(self.phase, ends, [samples(1.0), samples(), samples(2.0, 3.0)], interrupted=interrupted)

    def test_parts_are_added(self) -> None:
        outcome = self.of(
            Over(0, Part(5, 1, 1.5, {2: "first"}, 0), Server(4, 0.1, 0.2)),
            Over(0, Part(7, 2, 1.2, {2: "second", 4: "late"}, 0), None),
        )
        assert (outcome.planned, outcome.unsent, outcome.elapsed) == (12, 3, 1.5)
        assert outcome.messages == {2: "first", 4: "late"}
        assert outcome.server == Server(4, 0.1, 0.2)
        assert outcome.samples.intended.tolist() == [1, 2, 3]
        assert not outcome.interrupted

    def test_nothing_is_made_up(self) -> None:
        outcome = self.of(Over(0, Part(0, 0, 0.0, {}, 0), None), interrupted=True)
        assert outcome.server is None
        assert outcome.messages == {}
        assert outcome.interrupted


def samples(*moments: float) -> Samples:
    collector = Collector()
    for moment in moments:
        collector.add(Sample(moment, moment, moment, 0, Times()))
    return collector.take()
