"""Streams that outlive their connections, and a request that ends its server: tests/soak/ ends servers under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.crashing import DEADLY
from tests.e2e.pair import pair

CRASHED = 9


async def test_a_request_that_ends_its_server_ends_two(tmp_path: Path) -> None:
    """Whoever else is served by them gets every answer, from the servers that are started again."""
    ended, restarted = 0, asyncio.Semaphore(0)
    async with pair(tmp_path, f"scale={models.scale(tmp_path)}", module="tests.e2e.crashing") as servers:

        async def restart(index: int) -> None:
            nonlocal ended
            while True:
                code = await asyncio.to_thread(servers.servers[index].process.wait)
                if code != CRASHED:
                    return
                ended += 1
                await servers.start_again(index)
                restarted.release()

        restarting = [asyncio.create_task(restart(index)) for index in range(2)]
        async with hc.connect(servers.target) as server, server.stream(resume=True, patience=200) as stream:
            tickets = [await stream.submit("scale", {"x": np.full(3, value, np.float32)}) for value in range(5)]
            deadly = await stream.submit("scale", {"x": np.full(3, DEADLY)}, keep=["y"])
            behind = await stream.submit("scale", {"x": deadly["y"]})
            tickets += [await stream.submit("scale", {"x": np.full(3, value, np.float32)}) for value in range(5, 10)]
            with pytest.raises(hc.Internal, match="may be what ends the server"):
                await deadly
            with pytest.raises(hc.FailedPrecondition, match="INTERNAL"):
                await behind
            for value, ticket in enumerate(tickets):
                assert (await ticket)["y"].tolist() == [2 * value + 1] * 3
            assert (await (await stream.submit("scale", {"x": np.zeros(1, np.float32)})))["y"].tolist() == [1]
        for _ in range(2):  # the answers may be here before the second process is gone, and before it is there again
            await restarted.acquire()
        assert ended == 2
        for served in servers.servers:
            served.process.kill()
        await asyncio.gather(*restarting)
