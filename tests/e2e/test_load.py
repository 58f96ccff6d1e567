"""The load test against a real server, each of the four ways: its figures equal those of the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from headrace.client.load.callers.caller import Answer, Inputs, Request
from headrace.client.load.callers.connect import connect_callers, describe_model
from headrace.client.load.callers.departure import Departure
from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.record.run import Mode, Outcome, Protocol
from headrace.client.load.workers.messages import Job
from headrace.client.load.workers.pool import WorkerPool
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.status import ModelStatus
from headrace.wire.errors import Code, NotFound
from tests import models
from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Serve, Served

PROTOCOLS: list[Protocol] = ["headrace", "oip"]
MODES: list[Mode] = ["stream", "unary"]
COMBINATIONS = [(protocol, mode) for protocol in PROTOCOLS for mode in MODES]
INPUTS = {name: np.full((1, 16), 2, np.float32) for name in "xy"}

ways = pytest.mark.parametrize(("protocol", "mode"), COMBINATIONS)


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    return serve(f"add={models.add_multiply(tmp_path)}", f"slow={models.slow(tmp_path, 100)}")


async def status(served: Served, model: str) -> ModelStatus:
    async with hc.connect(served.address) as server:
        return next(each for each in (await server.status()).models if each.name == model)


async def answers(
    served: Served,
    protocol: Protocol,
    mode: Mode,
    request: Request,
    count: int,
    inputs: Inputs = INPUTS,
) -> Sequence[Answer]:
    """The outputs of `count` calls at once, on two callers."""
    async with connect_callers(ConnectionSettings(target=served.address), protocol, mode, 2, 8, request) as callers:
        return await asyncio.gather(*(callers[number % 2].call(inputs, Departure()) for number in range(count)))


def job_for(served: Served, protocol: Protocol, mode: Mode, *phases: Phase) -> Job:
    return Job(
        connection=ConnectionSettings(target=served.address),
        protocol=protocol,
        mode=mode,
        request=Request("add", "", outputs=("sum",)),
        streams=2,
        window=16,
        processes=2,
        phases=phases,
        seed=1,
        shapes=("x:2,16", "y:2,16"),
    )


async def run(job: Job) -> list[Outcome]:
    return await WorkerPool(job, lambda _: None).run()


@ways
async def test_every_request_is_an_inference(served: Served, protocol: Protocol, mode: Mode) -> None:
    found = await answers(served, protocol, mode, Request("add", "1", outputs=("sum",), timeout=30, priority=3), 50)
    assert [(answer.code, answer.message) for answer in found] == [(0, "")] * 50
    assert (await status(served, "add")).inferences == 50
    for answer in found:
        waiting, queued, running = answer.times
        if protocol == "oip":
            assert np.isnan(answer.times).all()
        else:
            assert waiting == 0
            assert 0 <= queued + running < answer.ended - answer.sent


async def test_kept_outputs_are_released(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"add={models.add_multiply(tmp_path)}", "--keep-bytes=16KiB")
    request = Request("add", "", outputs=(), keep=("sum", "product"))
    # Less than fifty of them would keep.
    async with connect_callers(ConnectionSettings(target=served.address), "headrace", "stream", 1, 8, request) as (
        caller,
    ):
        for _ in range(50):
            assert (await caller.call(INPUTS, Departure())).message == ""


@ways
async def test_errors_are_recorded_as_answers(served: Served, protocol: Protocol, mode: Mode) -> None:
    unknown = Request("other", "")
    for answer in await answers(served, protocol, mode, unknown, 3):
        assert answer.code == Code.NOT_FOUND
        assert "other" in answer.message
    wrong = {"x": INPUTS["x"], "y": np.zeros((1, 3), np.float32)}
    for answer in await answers(served, protocol, mode, Request("add", ""), 3, wrong):
        assert answer.code == Code.INVALID_ARGUMENT
        assert "'y'" in answer.message


@ways
async def test_timeouts_are_recorded_as_answers(served: Served, protocol: Protocol, mode: Mode) -> None:
    inputs = {"x": np.ones(1, np.float32)}
    for answer in await answers(served, protocol, mode, Request("slow", "", timeout=0.05), 2, inputs):
        assert answer.code == Code.DEADLINE_EXCEEDED
        assert 0.04 < answer.ended - answer.sent < 5


@ways
@retried_if_disturbed  # what could not be sent in half a second is unsent
async def test_a_run_may_have_two_processes(served: Served, protocol: Protocol, mode: Mode) -> None:
    before = (await status(served, "add")).inferences
    open_loop, closed_loop = Phase(OpenLoop(200, 400), 0.0, 0.5), Phase(ClosedLoop(8), 0.0, None, 100)
    first, second = await run(job_for(served, protocol, mode, open_loop, closed_loop))
    assert (first.planned, first.unsent, first.samples.count) == (150, 0, 150)
    assert (second.planned, second.unsent, second.samples.count) == (100, 0, 100)
    assert not first.samples.code.any()
    assert not second.samples.code.any()
    assert (await status(served, "add")).inferences == before + 250
    for outcome in (first, second):
        assert np.isnan(outcome.samples.running).all() == (protocol == "oip")
        assert (outcome.server is not None) == (protocol == "oip")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_both_protocols_describe_a_model_alike(served: Served, protocol: Protocol) -> None:
    model, server = await describe_model(ConnectionSettings(target=served.address), protocol, "add", "")
    assert (model.name, model.version) == ("add", "1")
    assert sorted(map(str, model.inputs)) == ["x FP32[?,16]", "y FP32[?,16]"]
    async with hc.connect(served.address) as own:
        assert server == f"headrace {(await own.status()).version}"


@ways
async def test_a_model_that_is_not_there_is_an_error(served: Served, protocol: Protocol, mode: Mode) -> None:
    job = job_for(served, protocol, mode, Phase(ClosedLoop(1), 0.0, 1.0))
    with pytest.raises(NotFound, match="other"):
        await run(replace(job, request=Request("other", "")))
