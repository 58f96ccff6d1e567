"""Kept outputs: postponed return and chains, with a real runtime, which reuses memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve

X = np.arange(16, dtype=np.float32).reshape(1, 16)


async def test_a_kept_output_survives_a_thousand_runs_on_its_slot(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", "--slots=1")
    async with hc.connect(served.address) as one, one.stream() as stream:
        kept = await stream.submit("am", {"x": X, "y": X}, outputs=[], keep=["sum", "product"])
        assert await kept == {}
        async with hc.connect(served.address) as two, two.stream() as other:
            tickets = [await other.submit("am", {"x": X + i, "y": X}, outputs=["sum"]) for i in range(1000)]
            for i, ticket in enumerate(tickets):
                np.testing.assert_array_equal((await ticket)["sum"], 2 * X + i)
        np.testing.assert_array_equal(await kept.fetch("sum"), 2 * X)
        np.testing.assert_array_equal(await kept.fetch("product"), X * X)


async def test_four_megabytes_are_fetched_whole_and_in_slices(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"wide={models.wide(tmp_path)}")
    expected = X.sum() + np.arange(1024, dtype=np.float32)[:, None] + np.zeros((1, 1024), np.float32)
    async with hc.connect(served.address) as server:
        async with server.stream() as stream:
            ticket = await stream.submit("wide", {"x": X}, outputs=["small"], keep=["large"])
            early = await ticket.fetch("large", slice=(1020, 1024))  # waits for the run
            np.testing.assert_array_equal(early, expected[1020:])
            np.testing.assert_array_equal((await ticket)["small"], 2 * X)
            np.testing.assert_array_equal(await ticket.fetch("large"), expected)
            np.testing.assert_array_equal(await ticket.fetch("large", slice=[(3, 900), (5, 6)]), expected[3:900, 5:6])
            assert (await ticket.fetch("large", slice=(7, 7))).shape == (0, 1024)
            for wrong in ((0, 1025), (5, 3), [(0, 1), (0, 1), (0, 1)]):
                with pytest.raises((hc.InvalidArgument, ValueError)):
                    await ticket.fetch("large", slice=wrong)
            assert (await server.status()).kept_bytes == 4 << 20
            reference = ticket["large"]
            ticket.release()
            with pytest.raises((hc.NotFound, KeyError)):
                await ticket.fetch("large")
            with pytest.raises(hc.FailedPrecondition, match="large"):
                await (await stream.submit("wide", {"x": reference}))
            assert (await server.status()).kept_bytes == 0
            again = await stream.submit("wide", {"x": X}, outputs=[], keep=["large"])
            await again
            assert (await server.status()).kept_bytes == 4 << 20
        assert (await server.status()).kept_bytes == 0


async def test_a_kept_output_is_gone_after_the_keep_time(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"wide={models.wide(tmp_path)}", "--keep-seconds=0.3")
    async with hc.connect(served.address) as server, server.stream() as stream:
        assert stream.hello.keep_seconds == 0.3
        ticket = await stream.submit("wide", {"x": X}, outputs=[], keep=["large"])
        await ticket
        async with asyncio.timeout(30):
            while (await server.status()).kept_bytes:
                pass
        with pytest.raises(hc.NotFound, match=f"ticket {ticket.tag}"):
            await ticket.fetch("large")


async def test_keeping_more_than_the_quota_of_a_stream_fails(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"wide={models.wide(tmp_path)}", "--keep-bytes=9MiB")
    async with hc.connect(served.address) as server, server.stream() as stream:
        first, second, third = [
            await stream.submit("wide", {"x": X}, outputs=["small"], keep=["large"]) for _ in range(3)
        ]
        await first
        await second
        with pytest.raises(hc.ResourceExhausted, match="'large'") as full:
            await third
        assert full.value.retryable
        first.release()
        await (await stream.submit("wide", {"x": X}, outputs=["small"], keep=["large"]))


async def test_a_chain_of_three_equals_three_round_trips(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", f"am={models.add_multiply(tmp_path)}")
    flat = np.linspace(-1, 1, 16, dtype=np.float32)
    async with hc.connect(served.address) as server, server.stream() as stream:
        a = await stream.submit("scale", {"x": flat}, outputs=[], keep=["y"])
        b = await stream.submit("scale", {"x": a.take("y")}, outputs=[], keep=["y"])
        c = await stream.submit("scale", {"x": b["y"]}, outputs=["y"])
        chained = (await c)["y"]
        by_hand = flat
        for _ in range(3):
            by_hand = (await server.infer("scale", {"x": by_hand}, outputs=["y"]))["y"]
        np.testing.assert_array_equal(chained, by_hand)
        assert a.waiting == 0
        with pytest.raises(hc.InvalidArgument, match="'x'"):
            await (await stream.submit("am", {"x": b["y"], "y": X}))


async def test_cancelling_the_first_of_a_chain_fails_the_rest(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"slow={models.slow(tmp_path)}", "--slots=1")
    x = np.ones(1, np.float32)
    async with hc.connect(served.address) as server, server.stream() as stream:
        a = await stream.submit("slow", {"x": x}, keep=["y"])
        b = await stream.submit("slow", {"x": a["y"]}, keep=["y"])
        c = await stream.submit("slow", {"x": b.take("y")})
        a.cancel()
        with pytest.raises(hc.Cancelled):
            await a
        for ticket, source in ((b, a), (c, b)):
            with pytest.raises(hc.FailedPrecondition, match=f"'y' of ticket {source.tag}"):
                await ticket
        assert (await (await stream.submit("slow", {"x": x})))["y"].tolist() == [1.0]
