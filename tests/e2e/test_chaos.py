"""Clients that do everything at random, badly, and at once. Afterwards the server serves, and holds nothing."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.held import until_nothing_is_held
from tests.e2e.serving import Serve

CLIENTS, ACTIONS = 8, 150


class Wild:
    """One client. It knows what every answer has to be, whatever it does."""

    def __init__(self, seed: int, stream: hc.Stream) -> None:
        self.random = random.Random(seed)
        self.stream = stream
        self.kept: list[tuple[hc.Ticket, str, int, float]] = []
        """What tickets keep, or have kept: its name, its size, and the value of all its elements."""
        self.right = 0

    async def act(self) -> None:
        kind = self.random.choice(
            ["plain", "plain", "chain", "chain", "bad", "fail", "slow", "fetch", "release", "cancel"]
        )
        await getattr(self, kind)()

    async def plain(self) -> None:
        value = float(np.float32(self.random.random()))
        x = np.full(self.random.choice([1, 7, 30_000]), value, np.float32)
        timeout = self.random.choice([None, None, 0.001])
        await self.submit("scale", x, x.size, value, 2 * value + 1, timeout)

    async def chain(self) -> None:
        """From a kept output or input, or from a part of it."""
        if self.kept:
            ticket, name, size, value = self.random.choice(self.kept)
            with suppress(KeyError):
                source = ticket.take(name) if self.random.random() < 0.3 else ticket[name]
                if self.random.random() < 0.5:
                    start = self.random.randrange(size)
                    source, size = source[start:size], size - start
                await self.submit("scale", source, size, value, 2 * value + 1, None)

    async def slow(self) -> None:
        await self.submit("slow", np.full(1, 3.0, np.float32), 1, 3.0, 3.0, self.random.choice([None, 0.01]))

    async def bad(self) -> None:
        square, whole = np.zeros((2, 2), np.float32), np.zeros(3, np.int32)
        choices: list[dict[str, npt.ArrayLike]] = [{}, {"x": square}, {"x": whole}, {"nope": square}]
        ticket = await self.stream.submit("scale", self.random.choice(choices))
        with pytest.raises(hc.InvalidArgument):
            await ticket

    async def fail(self) -> None:
        ticket = await self.stream.submit("failing", {"x": np.zeros(15, np.float32)}, keep=["y"])
        if self.random.random() < 0.5:
            ticket.cancel()
        with pytest.raises((hc.Internal, hc.Cancelled)):
            await ticket

    async def fetch(self) -> None:
        if self.kept:
            ticket, name, _, value = self.random.choice(self.kept)
            with suppress(KeyError, hc.NotFound):
                fetched = await ticket.fetch(name, slice=(0, 1))
                self.check(fetched, value)

    async def release(self) -> None:
        if self.kept:
            ticket, name, *_ = self.random.choice(self.kept)
            ticket.release(*[name] * self.random.randrange(2))

    async def cancel(self) -> None:
        if self.kept:
            self.random.choice(self.kept)[0].cancel()

    async def submit(
        self, model: str, x: npt.ArrayLike | hc.Reference, size: int, given: float, value: float, timeout: float | None
    ) -> None:
        """Infer from `size` elements of which each is `given`; each of the result is `value`."""
        outputs = self.random.choice([["y"], [], None])
        inputs: dict[str, npt.ArrayLike | hc.Reference] = {"x": x}
        keep_inputs = self.random.choice([["x"], []])
        ticket = await self.stream.submit(
            model, inputs, outputs=outputs, keep=["y"], keep_inputs=keep_inputs, timeout=timeout
        )
        self.kept = [*self.kept[-30:], (ticket, "y", size, value), *[(ticket, "x", size, given)] * len(keep_inputs)]
        if self.random.random() < 0.3:
            with suppress(hc.Cancelled, hc.DeadlineExceeded, hc.FailedPrecondition, hc.ResourceExhausted):
                result = await ticket
                if outputs != []:
                    self.check(result["y"], value)

    def check(self, array: npt.NDArray[np.float32], value: float) -> None:
        np.testing.assert_allclose(array, value, rtol=1e-6)
        self.right += 1


async def rampage(address: str, seed: int) -> int:
    """Acts at random on three streams, and leaves them in three ways. Returns how many answers were right."""
    right = 0
    async with hc.connect(address) as server:
        for leave in ("well", "by an exception", "by closing the connection"):
            with suppress(ZeroDivisionError):
                async with server.stream(ordered=seed % 2 == 0) as stream:
                    wild = Wild(seed, stream)
                    for _ in range(ACTIONS):
                        await wild.act()
                    right += wild.right
                    if leave == "by an exception":
                        raise ZeroDivisionError
                    if leave == "by closing the connection":
                        await server.close()
    return right


async def garbage(address: str, seed: int) -> None:
    """Random bytes, as frames."""
    source = random.Random(seed)
    async with grpc.aio.insecure_channel(address) as channel:
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/headrace.v1.Inference/Stream")
        call = start()
        for _ in range(100):
            await call.write(source.randbytes(source.choice([0, 1, 10, 1000])))
        call.cancel()


async def test_a_server_survives_wild_clients(serve: Serve, tmp_path: Path) -> None:
    served = serve(
        f"scale={models.scale(tmp_path)}",
        f"slow={models.slow(tmp_path, steps=3)}",
        f"failing={models.failing(tmp_path)}",
        "--keep-bytes=1MiB",
        "--window=32",
    )
    async with asyncio.TaskGroup() as tasks:
        rampages = [tasks.create_task(rampage(served.address, seed)) for seed in range(CLIENTS)]
        for seed in range(4):
            tasks.create_task(garbage(served.address, seed))
    assert all(task.result() > 20 for task in rampages)
    async with hc.connect(served.address) as server:
        async with asyncio.timeout(30):
            await until_nothing_is_held(server)
        assert (await server.infer("scale", {"x": np.ones(1, np.float32)}))["y"].tolist() == [3.0]
        assert (await server.status()).streams == 0
    assert "AssertionError" not in served.log
    assert "never retrieved" not in served.log
