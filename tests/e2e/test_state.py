"""State that clients carry, by references from ticket to ticket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np

import headrace.client as hc
from headrace.client import blocking
from tests import models, stateful_models
from tests.e2e.serving import Serve
from tests.stateful_models import FEATURES, UNITS, Array, steps

STEPS = 50


async def chain(
    server: hc.Server, model: str, inputs: list[dict[str, Array]], output: str, state: dict[str, tuple[int, ...]]
) -> list[Array]:
    """An output of each step. All steps are submitted before the first has run."""
    keep = [f"{name}.next" for name in state]
    async with server.stream() as stream:
        tickets: list[hc.Ticket] = []
        for each in inputs:
            carried = {
                name: tickets[-1].take(f"{name}.next") if tickets else hc.zeros(shape, np.float32)
                for name, shape in state.items()
            }
            tickets.append(await stream.submit(model, {**each, **carried}, outputs=[output], keep=keep))
        return [(await ticket)[output] for ticket in tickets]


async def test_a_chain_of_a_real_model_equals_its_own_variables(serve: Serve, tmp_path: Path) -> None:
    path = stateful_models.speech(tmp_path)
    served = serve(str(path), "--state=ports")
    random = np.random.default_rng(5)
    inputs = [{"input": random.standard_normal((1, 576), np.float32)} for _ in range(STEPS)]
    async with hc.connect(served.address) as server:
        assert not (await server.model("speech")).has_variables
        found = await chain(server, "speech", inputs, "output", {"statestateN": (2, 1, 128)})
    np.testing.assert_allclose(found, [*steps(path, inputs, "output")], atol=1e-5)


async def test_chains_of_many_streams_share_runs(serve: Serve, tmp_path: Path) -> None:
    """Each equals its own run in OpenVINO, however their tickets are joined."""
    alone = stateful_models.lstm(tmp_path, 1, "alone")
    served = serve(str(stateful_models.lstm(tmp_path)), "--state=ports")
    random = np.random.default_rng(6)
    inputs = [[{"x": random.standard_normal((1, FEATURES), np.float32)} for _ in range(STEPS)] for _ in range(8)]
    async with hc.connect(served.address) as server:
        assert (await server.model("lstm")).batch > 1
        found = await asyncio.gather(
            *(chain(server, "lstm", each, "y", {"h": (1, UNITS), "c": (1, UNITS)}) for each in inputs)
        )
        (status,) = (await server.status()).models
        assert status.executions < status.inferences == STEPS * len(inputs)
    for ours, each in zip(found, inputs, strict=True):
        np.testing.assert_allclose(ours, [*steps(alone, each, "y")], atol=1e-5)


def test_a_model_whose_variables_are_reset_says_so(serve: Serve, tmp_path: Path) -> None:
    """When it is loaded, on its first inference, and in `headrace models`; not for a model that has none."""
    served = serve(str(models.counter(tmp_path)), str(models.scale(tmp_path)))
    log = served.wait_until_logged("which are reset before each inference")
    assert "--state=sequence" in log
    assert "--state=ports" in log
    with blocking.connect(served.address) as server:
        for name in ("counter", "scale"):
            for _ in range(3):
                server.infer(name, {"x": np.ones(1, np.float32)})
    log = served.wait_until_logged("model 'counter' begins each inference with its variables reset: see --state")
    assert log.count("begins each inference") == log.count("has variables, which") == 1
    command = [sys.executable, "-m", "headrace.client", "models", served.address]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "counter 1: its variables are reset before each inference" in told.stdout
    assert "scale 1:" not in told.stdout


async def test_a_native_inference_is_part_of_no_sequence(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.counter(tmp_path)), "--state=sequence")
    async with hc.connect(served.address) as server, server.stream() as stream:
        model = await server.model("counter")
        assert (model.has_variables, model.sequences) == (True, True)
        for value in (1.0, 5.0):
            outputs = await (await stream.submit("counter", {"x": np.array([value], np.float32)}))
            assert outputs["count"].tolist() == [value]
    assert "reset" not in served.log


async def test_a_model_without_variables_does_not_mind(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--state=ports")
    async with hc.connect(served.address) as server:
        assert (await server.infer("scale", {"x": np.ones(1, np.float32)}))["y"].tolist() == [3]
