"""Streams that outlive their connections: servers are killed and stopped under load, and no ticket is lost or wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.crashing import DEADLY
from tests.e2e.pair import pair

SECONDS = float(os.environ.get("HEADRACE_RESUME_SECONDS", "9"))
"""How long servers die under load; `make test-resume` takes 60."""
EVERY = 5.0 if SECONDS >= 30 else 3.0
"""Seconds between two ends of servers."""
RATE, STREAMS, CHAINS = 500, 6, 32 if SECONDS >= 30 else 12
STEP = 0.2
"""Seconds between the steps of a chain."""
SILERO = importlib.util.find_spec("silero_vad")
STATE = (2, 1, 128)
CRASHED = 9


def chunk(chain: int, step: int) -> npt.NDArray[np.float32]:
    """f32[1,576], noise that is the same each time."""
    return np.random.default_rng((chain, step)).normal(0, 0.1, (1, 576)).astype(np.float32)


async def speech(stream: hc.Stream, chain: int, steps: int, pause: float) -> list[bytes]:
    """The probabilities of a chain of Silero's model, two steps of which are in flight."""
    tickets: list[hc.Ticket] = []
    found = []
    for step in range(steps):
        state = tickets[-1].take("stateN") if tickets else hc.zeros(STATE)
        inputs = {"input": chunk(chain, step), "state": state}
        tickets.append(await stream.submit("speech", inputs, outputs=["output"], keep=["stateN"]))
        if step:
            found.append((await tickets[-2])["output"].tobytes())
        await asyncio.sleep(pause)
    return [*found, (await tickets[-1])["output"].tobytes()]


class Load:
    """Numbers sent at a rate over several streams. Each answer says which number it belongs to."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.answers: list[int] = []
        self.sent = 0

    async def send(self, streams: Sequence[hc.Stream], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            while (due := self.sent / RATE) < seconds:
                await asyncio.sleep(began + due - loop.time())
                tasks.create_task(self._one(streams[self.sent % len(streams)], self.sent, began + due))
                self.sent += 1

    async def _one(self, stream: hc.Stream, number: int, due: float) -> None:
        ticket = await stream.submit("scale", {"x": np.full(4, number, np.float32)})
        y = (await ticket)["y"]
        assert (y == y[0]).all()
        self.answers.append(round((float(y[0]) - 1) / 2))
        self.latencies.append(asyncio.get_running_loop().time() - due)


@pytest.mark.skipif(SILERO is None, reason="the model is not installed: make .venv/.model")
@pytest.mark.timeout(300 + 3 * SECONDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_lost_or_wrong_while_servers_end_and_start_again(
    number: signal.Signals, tmp_path: Path
) -> None:
    assert SILERO is not None
    assert SILERO.submodule_search_locations
    silero = Path(SILERO.submodule_search_locations[0]) / "data" / "silero_vad_openvino_16k.onnx"
    breaks: list[hc.Resumed] = []
    steps = int(SECONDS / STEP)
    async with pair(tmp_path, f"scale={models.scale(tmp_path)}", f"speech={silero}") as servers:
        async with hc.connect(servers.target) as server, server.stream() as stream:
            chains = [speech(stream, chain, steps, 0.0) for chain in range(CHAINS)]
            expected = await asyncio.gather(*chains)
        load, ended = Load(), 0
        async with hc.connect(servers.target) as server, asyncio.TaskGroup() as tasks:
            streams = [server.stream(resume=True, on_resume=breaks.append) for _ in range(STREAMS)]
            for each in streams:
                await each.__aenter__()
            sending = tasks.create_task(load.send(streams, SECONDS))
            talking = [
                tasks.create_task(speech(streams[chain % STREAMS], chain, steps, STEP)) for chain in range(CHAINS)
            ]
            while True:
                await asyncio.wait((sending,), timeout=EVERY)
                if sending.done():
                    break
                servers.end(ended % 2, number)
                await servers.start_again(ended % 2)
                ended += 1
            found = await asyncio.gather(*talking)
            for each in streams:
                await each.__aexit__(None, None, None)
    assert sorted(load.answers) == list(range(load.sent))  # none is lost, none is given twice
    assert found == expected
    assert ended
    assert breaks
    stalls, late = sorted(each.seconds for each in breaks), sorted(load.latencies)
    print(
        f"\n{number.name}: {ended} servers ended, {len(breaks)} breaks, {sum(each.tickets for each in breaks)} tickets "
        f"sent again; without a connection: median {at(stalls, 0.5)}, p99 {at(stalls, 0.99)}, longest {at(stalls, 1)}; "
        f"{load.sent} answers: p99 {at(late, 0.99)}, slowest {at(late, 1)}"
    )


def at(values: Sequence[float], part: float) -> str:
    """A quantile of sorted seconds."""
    return f"{values[min(len(values) - 1, int(len(values) * part))] * 1000:.0f} ms"


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
