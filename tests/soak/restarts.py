"""Two servers that are stopped and started again in turns, under load: no ticket of a resuming stream is lost."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import headrace.client as hc
from tests import models
from tests.e2e.pair import Pair, pair
from tests.soak.findings import Findings
from tests.soak.setting import PATIENCE, Setting
from tests.soak.wild_resuming import Wild

RESTARTS = 30
"""By each of the signals."""
RATE, STREAMS, WILD = 500, 6, 4
STEP = 0.2
"""Seconds between the steps of a chain."""
STATE = (2, 1, 128)
SILERO = importlib.util.find_spec("silero_vad")
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}


def silero() -> Path:
    """The model of the chains, which `make .venv/.model` installs."""
    assert SILERO is not None
    assert SILERO.submodule_search_locations
    return Path(SILERO.submodule_search_locations[0]) / "data" / "silero_vad_openvino_16k.onnx"


def chunk(chain: int, step: int) -> npt.NDArray[np.float32]:
    """f32[1,576], noise that is the same each time."""
    return np.random.default_rng((chain, step)).normal(0, 0.1, (1, 576)).astype(np.float32)


async def speech(stream: hc.Stream, chain: int, steps: int, pause: float, over: asyncio.Event) -> list[bytes]:
    """The probabilities of a chain of Silero's model, two steps of which are in flight, until there are enough or it is
    over."""
    tickets: list[hc.Ticket] = []
    found = []
    while len(tickets) < steps and not (tickets and over.is_set()):
        state = tickets[-1].take("stateN") if tickets else hc.zeros(STATE)
        inputs = {"input": chunk(chain, len(tickets)), "state": state}
        tickets.append(await stream.submit("speech", inputs, outputs=["output"], keep=["stateN"]))
        if len(tickets) > 1:
            found.append((await tickets[-2])["output"].tobytes())
        await asyncio.sleep(pause)
    return [*found, (await tickets[-1])["output"].tobytes()]


class Load:
    """Numbers sent at a rate over several streams. Each answer says which number it belongs to."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.answers: list[int] = []
        self.sent = 0

    async def send(self, streams: Sequence[hc.Stream], over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            while not over.is_set():
                due = began + self.sent / RATE
                await asyncio.sleep(due - loop.time())
                tasks.create_task(self._one(streams[self.sent % len(streams)], self.sent, due))
                self.sent += 1

    async def _one(self, stream: hc.Stream, number: int, due: float) -> None:
        ticket = await stream.submit("scale", {"x": np.full(4, number % (1 << 20), np.float32)})
        y = (await ticket)["y"]
        assert (y == y[0]).all()
        assert round((float(y[0]) - 1) / 2) == number % (1 << 20)
        self.answers.append(number)
        self.latencies.append(asyncio.get_running_loop().time() - due)


async def rolling(servers: Pair, ends: int, number: int, findings: Findings, name: str, chains: int) -> None:
    """End the servers in turns, each as soon as the other one serves again, beside load, chains and wild clients."""
    load, breaks, over = Load(), list[hc.Resumed](), asyncio.Event()
    async with hc.connect(servers.target) as server, asyncio.TaskGroup() as tasks:
        streams = [
            server.stream(
                resume=True, patience=PATIENCE, on_resume=breaks.append, ordered=number >= STREAMS and number % 2 == 1
            )
            for number in range(STREAMS + WILD)
        ]
        for each in streams:
            await each.__aenter__()
        sending = tasks.create_task(load.send(streams[:STREAMS], over))
        talking = [
            tasks.create_task(speech(streams[chain % STREAMS], chain, 1 << 30, STEP, over)) for chain in range(chains)
        ]
        wild = [Wild(seed, stream) for seed, stream in enumerate(streams[STREAMS:])]
        running = [tasks.create_task(each.run(over)) for each in wild]
        for end in range(ends):
            await asyncio.sleep(1.0)
            servers.end(end % 2, number)
            await servers.start_again(end % 2)
        await asyncio.sleep(1.0)
        over.set()
        await asyncio.gather(sending, *running)
        found = await asyncio.gather(*talking)
        journals = sum("0 in the journal" not in repr(stream) for stream in streams[STREAMS:])
        for each in streams:
            await each.__aexit__(None, None, None)
        async with server.stream() as stream:
            never = asyncio.Event()
            expected = await asyncio.gather(
                *[speech(stream, chain, len(each), 0.0, never) for chain, each in enumerate(found)]
            )
    stalls, late = sorted(each.seconds for each in breaks), sorted(load.latencies)
    findings.equal(f"{name}: servers ended and started again", ends, ends)
    findings.at_least("  streams that went on with the other server", len(breaks), 1)
    findings.count("  tickets that were sent again", sum(each.tickets for each in breaks))
    findings.at_least("  inferences sent at a steady rate", load.sent, 1)
    findings.equal("  lost, or given twice", len(set(range(load.sent)) ^ set(load.answers)) + _twice(load.answers), 0)
    findings.count("  steps of chains", sum(map(len, found)))
    findings.equal(
        "  chains that are not bit for bit the same", sum(a != b for a, b in zip(found, expected, strict=True)), 0
    )
    done = sum((each.ends.total() for each in wild), 0)
    findings.at_least("  right ends of wild clients", done, 100)
    findings.equal("  streams of wild clients with something left in the journal", journals, 0)
    findings.count("  median without a connection", 1000 * at(stalls, 0.5), "ms")
    findings.count("  longest without a connection", 1000 * at(stalls, 1), "ms")
    findings.count("  p99 from when an inference was due", 1000 * at(late, 0.99), "ms")


def _twice(numbers: Sequence[int]) -> int:
    return len(numbers) - len(set(numbers))


def at(values: Sequence[float], part: float) -> float:
    """A quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * part))]


async def restart_all(setting: Setting, ends: int, signals: Sequence[str], chains: int = 12) -> Findings:
    findings = Findings()
    paths = [f"scale={models.scale(setting.folder)}", f"speech={silero()}"]
    options = [f"--cache-dir={setting.folder / 'cache'}", f"--transport={setting.transport}"]
    async with pair(setting.folder, *paths, *options) as servers:
        for name in signals:
            await rolling(servers, ends, SIGNALS[name], findings, name, chains)
    return findings


def restarts(setting: Setting) -> Findings:
    return asyncio.run(restart_all(setting, setting.of(RESTARTS), [*SIGNALS]))
