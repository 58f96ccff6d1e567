"""Many inferences on one stream, and many streams on one server: every answer belongs to its request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve


@pytest.mark.parametrize("ordered", [False, True])
async def test_ten_thousand_inferences_share_one_stream(serve: Serve, tmp_path: Path, ordered: bool) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", "--window=64")
    y = np.arange(16, dtype=np.float32).reshape(1, 16)
    ends: list[int] = []

    async def note(number: int, ticket: hc.Ticket) -> None:
        outputs = await ticket
        ends.append(number)
        np.testing.assert_array_equal(outputs["sum"], y + number)
        np.testing.assert_array_equal(outputs["product"], y * number)

    async with (
        hc.connect(served.address) as server,
        asyncio.TaskGroup() as tasks,
        server.stream(ordered=ordered) as stream,
    ):
        assert stream.hello.window == 64
        for number in range(10_000):
            x = np.full((1, 16), number, np.float32)
            ticket = await stream.submit("am", {"x": x, "y": y}, outputs=["product", "sum"])
            tasks.create_task(note(number, ticket))
            assert stream.in_flight <= 64
    assert sorted(ends) == list(range(10_000))
    if ordered:
        assert ends == sorted(ends)


async def test_an_ordered_stream_waits_for_the_slow_infer(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path, steps=48)}", f"scale={models.scale(tmp_path)}")
    ends: list[str] = []

    async def note(name: str, ticket: hc.Ticket) -> None:
        await ticket
        ends.append(name)

    one = np.ones(1, np.float32)
    async with hc.connect(served.address) as server:
        for ordered in (False, True):
            ends.clear()
            async with asyncio.TaskGroup() as tasks, server.stream(ordered=ordered) as stream:
                for name in ("slow", "scale", "scale"):
                    tasks.create_task(note(name, await stream.submit(name, {"x": one})))
            assert ends == (["slow", "scale", "scale"] if ordered else ["scale", "scale", "slow"])


async def test_clients_that_share_a_model_never_see_each_others_data(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", "--slots=2")

    async def client(number: int) -> None:
        rows = number + 1
        async with hc.connect(served.address) as server, server.stream() as stream:
            x = np.full((rows, 16), number, np.float32)
            tickets = [await stream.submit("am", {"x": x, "y": x}, keep=["sum"]) for _ in range(200)]
            for ticket in tickets:
                outputs = await ticket
                np.testing.assert_array_equal(outputs["sum"], 2 * x)
                np.testing.assert_array_equal(outputs["product"], x * x)
            with pytest.raises(hc.InvalidArgument, match="'y'"):
                await (await stream.submit("am", {"x": x}))
            foreign = hc.Reference(tickets[0]["sum"].stream, 10**6, "sum")
            with pytest.raises(hc.FailedPrecondition, match=f"ticket {10**6}"):
                await (await stream.submit("am", {"x": foreign, "y": x}))

    async with asyncio.TaskGroup() as tasks:
        for number in range(6):
            tasks.create_task(client(number))


async def test_a_model_with_variables_starts_anew_for_every_ticket(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"counter={models.counter(tmp_path)}", "--slots=1")
    async with hc.connect(served.address) as server, server.stream() as stream:
        for value in (1.0, 1.0, 5.0, 1.0):
            outputs = await (await stream.submit("counter", {"x": np.array([value], np.float32)}))
            assert outputs["count"].tolist() == [value]
        assert (await server.infer("counter", {"x": np.array([3.0], np.float32)}))["count"].tolist() == [3.0]


DTYPES = ["boolean", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "f32", "f64", "bf16"]


async def test_every_numeric_datatype_comes_back_bit_by_bit(serve: Serve, tmp_path: Path) -> None:
    arguments = [f"{name}={models.identity(tmp_path, name)}" for name in DTYPES]
    served = serve(*arguments, "--property=INFERENCE_PRECISION_HINT=f32")
    random = np.random.default_rng(1)
    async with hc.connect(served.address) as server, server.stream() as stream:
        for model in await server.models():
            dtype = model.inputs[0].dtype
            data = random.integers(0, 2 if dtype == np.bool_ else 200, 33).astype(dtype)
            for outputs in (
                await (await stream.submit(model.name, {"x": data})),
                await server.infer(model.name, {"x": data}),
            ):
                (same,) = outputs.values()
                assert same.dtype == dtype
                assert same.tobytes() == data.tobytes()
