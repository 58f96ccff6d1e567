"""A server makes a variant of a model while all kinds of clients use it, and no answer has other bits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as oip
from tests import models
from tests.child_processes import children
from tests.e2e.operating import Operator
from tests.e2e.serving import Serve

INPUTS = 24
Array = npt.NDArray[np.float32]
RUNS = 300
"""Runs of the variant that end the test."""


class Crowd:
    """Clients of `two_heads`, each with answers that are known from requests of all outputs, before any variant."""

    def __init__(self, server: hc.Server, address: str) -> None:
        self._server = server
        self._address = address
        self.ended = False
        self.answers: dict[str, int] = {}
        random = np.random.default_rng(1)
        self._inputs: list[dict[str, Array]] = [
            {name: random.standard_normal((1 + number % 3, 16), np.float32) for name in "xy"}
            for number in range(INPUTS)
        ]
        self._expected: list[dict[str, bytes]] = []

    async def learn(self) -> None:
        async with self._server.stream() as stream:
            for inputs in self._inputs:
                outputs = await (await stream.submit("m", inputs))
                self._expected.append({name: array.tobytes() for name, array in outputs.items()})

    def _check(self, who: str, number: int, **outputs: Array) -> None:
        expected = self._expected[number % INPUTS]
        assert {name: array.tobytes() for name, array in outputs.items()} == {
            name: expected[name] for name in outputs
        }, who
        self.answers[who] = self.answers.get(who, 0) + 1

    async def ask(self, who: str, outputs: list[str] | None, ahead: int) -> None:
        """Some outputs, or all."""
        async with self._server.stream() as stream:
            numbers = itertools.takewhile(lambda _: not self.ended, itertools.count())
            items = (self._inputs[number % INPUTS] for number in numbers)
            answered = itertools.count()
            async for found in stream.map("m", items, outputs=outputs, ahead=ahead):
                self._check(who, next(answered), **found)

    async def keep(self) -> None:
        """Keeps what it asks for, and chains it to a run of either kind."""
        async with self._server.stream() as stream:
            for number in itertools.count():
                if self.ended:
                    return
                inputs = self._inputs[number % INPUTS]
                first = await stream.submit("m", inputs, outputs=[], keep=["light"])
                second = await stream.submit(
                    "m", {"x": first["light"], "y": inputs["y"]}, outputs=["light", "heavy"][: 1 + number % 2]
                )
                self._check("keep", number, light=await first.fetch("light"))
                light = np.frombuffer(self._expected[number % INPUTS]["light"], np.float32)
                np.testing.assert_allclose((await second)["light"].ravel(), np.tanh(light / 2), rtol=1e-5)
                first.release()

    async def give_up(self) -> None:
        """Cancels, and has deadlines that pass."""
        async with self._server.stream() as stream:
            for number in itertools.count():
                if self.ended:
                    return
                inputs = self._inputs[number % INPUTS]
                cancelled = await stream.submit("m", inputs, outputs=["light"])
                late = await stream.submit("m", inputs, outputs=["light"], timeout=1e-4)
                kept = await stream.submit("m", inputs, outputs=["light"])
                cancelled.cancel()
                for ticket in (cancelled, late):
                    with suppress(hc.Cancelled, hc.DeadlineExceeded):
                        self._check("give up", number, **await ticket)
                self._check("give up", number, **await kept)

    async def call(self) -> None:
        """Unary calls of the Open Inference Protocol."""
        operator = Operator(self._address)

        def infer(number: int) -> Array:
            inputs = self._inputs[number % INPUTS]
            request = oip.ModelInferRequest(
                model_name="m",
                inputs=[
                    oip.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=array.shape)
                    for name, array in inputs.items()
                ],
                outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="light")],
                raw_input_contents=[array.tobytes() for array in inputs.values()],
            )
            (content,) = operator.stub.ModelInfer(request, timeout=30).raw_output_contents
            return np.frombuffer(content, np.float32)

        with operator.channel:
            for number in itertools.count():
                if self.ended:
                    return
                self._check("call", number, light=await asyncio.to_thread(infer, number))


async def pruned(server: hc.Server, runs: int) -> hc.ModelStatus:
    """The status of the model once its variant has run so often."""
    for _ in range(3000):
        (status,) = (await server.status()).models
        if status.variants and status.variants[0].executions >= runs:
            return status
        await asyncio.sleep(0.05)
    raise AssertionError("there is no variant")


async def operate(server: hc.Server) -> None:
    """Wait for a variant, and load the model again, with which the variant goes."""
    model = await pruned(server, RUNS)
    (variant,) = model.variants
    assert variant.outputs == ("light",)
    assert variant.executions < model.executions < model.inferences
    await server.load_model("m")
    (model,) = (await server.status()).models
    assert model.variants == ()
    await pruned(server, RUNS)


@pytest.mark.timeout(400)
async def test_nobody_gets_other_bits_while_variants_come_and_go(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"m={models.two_heads(tmp_path, width=2048)}", "--model-control")
    async with hc.connect(served.address) as server:
        crowd = Crowd(server, served.address)
        await crowd.learn()
        work: list[Callable[[], Awaitable[None]]] = [
            lambda: crowd.ask("some", ["light"], 16),
            lambda: crowd.ask("few", ["light"], 1),
            lambda: crowd.ask("all", None, 2),
            lambda: crowd.ask("other", ["heavy"], 1),
            crowd.keep,
            crowd.give_up,
            crowd.call,
        ]
        tasks = [asyncio.ensure_future(each()) for each in work]
        operating = asyncio.ensure_future(operate(server))
        await asyncio.wait([operating, *tasks], return_when=asyncio.FIRST_COMPLETED)
        crowd.ended = True
        await asyncio.gather(*tasks)
        await operating
        assert min(crowd.answers[who] for who in ("some", "few", "all", "other", "keep", "give up", "call")) > 0
    served.wait_until_logged("pruned to 'light'", 2)
    assert served.stop() == 0
    assert "incident" not in served.log


@pytest.mark.timeout(400)
async def test_a_server_that_tries_a_variant_stops_as_quickly_as_any(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"m={models.two_heads(tmp_path, width=2048)}", env={"HEADRACE_CACHE_DIR": str(tmp_path / "cache")})
    x = np.ones((1, 16), np.float32)
    async with hc.connect(served.address) as server, server.stream() as stream:
        items = itertools.takewhile(lambda _: not children(served.process.pid), itertools.repeat({"x": x, "y": x}))
        async for _ in stream.map("m", items, outputs=["light"], ahead=16):
            pass
    assert served.stop() == 0
    assert "loaded model 'm' version 1 pruned to" not in served.log
