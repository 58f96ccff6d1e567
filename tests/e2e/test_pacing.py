"""Large inputs: as many as a program likes to submit, at the pace of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from tests import models
from tests.e2e.serving import Served

IMAGES = 160
IMAGE = np.ones(1 << 18, np.float32)
"""One MiB. The server takes 20 of them from all streams."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pacing")
    options = ("--queue-bytes=20MiB", "--property=INFERENCE_PRECISION_HINT=f32")
    with Served([f"scale={models.scale(folder)}", *options], folder / "log") as server:
        yield server.address


async def test_many_large_inputs_are_paced(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        assert stream.hello.queue_bytes == 4 << 20
        tickets = [await stream.submit("scale", {"x": IMAGE}, outputs=[]) for _ in range(IMAGES)]
        await asyncio.gather(*tickets)


async def test_many_large_inputs_of_many_tasks_are_paced(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as one, server.stream() as other:

        async def infer(number: int) -> float:
            stream = (one, other)[number % 2]
            ticket = await stream.submit("scale", {"x": IMAGE * number}, keep=["y"], outputs=[])
            async with asyncio.timeout(30):
                first = await ticket.fetch("y", (0, 1))
            ticket.release()
            return float(first[0])

        found = await asyncio.gather(*map(infer, range(IMAGES)))
        assert found == [2 * number + 1 for number in range(IMAGES)]


def test_many_large_inputs_are_paced_without_await(address: str) -> None:
    with blocking.connect(address) as server, server.stream() as stream:
        tickets = [stream.submit("scale", {"x": IMAGE}, outputs=[]) for _ in range(IMAGES)]
        for ticket in tickets:
            ticket.result()
        assert sum(1 for _ in stream.map("scale", ({"x": IMAGE} for _ in range(IMAGES)), outputs=[], ahead=IMAGES))


async def test_an_input_that_is_larger_than_the_servers_share_is_sent_alone(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        large = np.ones(9 << 18, np.float32)
        assert large.nbytes > stream.hello.queue_bytes
        tickets = [await stream.submit("scale", {"x": large}, outputs=[]) for _ in range(4)]
        await asyncio.gather(*tickets)
