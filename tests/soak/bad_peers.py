"""Clients that write too fast, and clients that never read: the server stays bounded, and others hardly notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

import grpc
import grpc.aio
import numpy as np

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.flooding import Peers
from tests.e2e.serving import Served
from tests.interop.inferences import MODEL_INFER, Bystander, Command, definition, frame, model_infer, model_infer_answer
from tests.soak.findings import Findings
from tests.soak.setting import PATIENCE, Setting

WRITERS = READERS = 100
COMMANDS = 500
"""Of each frame of a writer, more than fit into a window."""
WINDOW = 64
LARGE = 1 << 16
"""Numbers of each output that a reader asks for, 256 KiB of them: a window of them is 16 MiB."""
MEMORY_MIB = 512
BESIDE_MIB = 192
"""What the process may take beside what `--memory` counts: the allocator's, and gRPC's for 200 connections."""
RATE, GOOD = 50, 6
"""Requests per second of each of the other clients, and how many of these there are."""
PHASE_SECONDS, PHASES = 8.0, 4
SHORT_SECONDS = 3.0
"""Of the only phase, where there are few bad ones."""
MOST_SECONDS = 420.0
"""For the bad ones to come to a stand."""
RATIO = 1.5
MOST_FRAMES = 1 << 30
MIB = 1 << 20
Ask = Callable[[float], Awaitable[float]]
"""Ask for 2x + 1."""


class Others:
    """Clients that do nothing wrong: two with streams of tickets, and one with unary calls, each several times."""

    def __init__(self, server: hc.Server, streams: list[hc.Stream], channel: grpc.aio.Channel) -> None:
        self._server, self._streams = server, streams
        self._unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(MODEL_INFER)
        self.answers = 0

    async def p99(self, seconds: float) -> float:
        """Of what they wait for, in milliseconds."""
        took: list[float] = []
        asks = [self._framed(stream) for stream in self._streams] + [self._ask_unary]
        work = [self._paced(asks[number % len(asks)], number, seconds, took) for number in range(GOOD)]
        await asyncio.gather(*work)
        self.answers += len(took)
        return 1000 * sorted(took)[int(0.99 * len(took))]

    async def _paced(self, ask: Ask, number: int, seconds: float, took: list[float]) -> None:
        """From when each was due."""
        loop = asyncio.get_running_loop()
        began = loop.time() + number / RATE / GOOD
        async with asyncio.TaskGroup() as tasks:
            for each in range(int(seconds * RATE)):
                due = began + each / RATE
                await asyncio.sleep(due - loop.time())
                tasks.create_task(self._timed(ask, float(each), took))

    async def _timed(self, ask: Ask, value: float, took: list[float]) -> None:
        began = time.perf_counter()
        assert await ask(value) == 2 * value + 1
        took.append(time.perf_counter() - began)

    def _framed(self, stream: hc.Stream) -> Ask:
        async def ask(value: float) -> float:
            ticket = await stream.submit("scale", {"x": np.full(1, value, np.float32)})
            return float((await ticket)["y"][0])

        return ask

    async def _ask_unary(self, value: float) -> float:
        return model_infer_answer(await self._unary(model_infer(value), timeout=60))


async def _measure(findings: Findings, served: Served, setting: Setting, peers: int) -> None:
    phases, seconds = (PHASES, PHASE_SECONDS) if setting.share == 1 else (1, SHORT_SECONDS)
    bystander = Bystander(served.address, PATIENCE)
    before = served.resident_bytes()
    async with (
        hc.connect(served.address) as server,
        grpc.aio.insecure_channel(served.address) as channel,
        server.stream() as one,
        server.stream() as two,
    ):
        others = Others(server, [one, two], channel)
        await others.p99(1.0)
        alone = [await others.p99(seconds) for _ in range(phases)]
        bad = _bad_peers(served.address, setting, peers)
        peak, filling, began = 0, [], time.monotonic()
        try:
            sent = -1
            while (now := sum(sum(each.sent()) for each in bad)) != sent:
                sent = now
                filling.append(await others.p99(seconds))
                peak = max(peak, served.resident_bytes())
                assert time.monotonic() < began + MOST_SECONDS, "the writers are never held up"
            stood = time.monotonic() - began
            beside = [await others.p99(seconds) for _ in range(phases)]
            peak = max(peak, served.resident_bytes())
            status = bystander.status()
            assert sum(sum(each.sent()) for each in bad) == sent
        finally:
            for each in bad:
                each.close()
        await asyncio.to_thread(bystander.until, lambda status: status.streams <= 2)
        alone += [await others.p99(seconds) for _ in range(phases)]
    bystander.until_idle()
    bystander.channel.close()
    findings.equal("writers, and as many readers", peers, setting.of(WRITERS))
    findings.at_least("streams meanwhile", status.streams, 2 * peers)
    findings.count("frames that gRPC took of the writers", sent)
    findings.count("seconds until no more was taken", stood)
    findings.below("memory, more than before", (peak - before) / MIB, MEMORY_MIB + BESIDE_MIB, "MiB")
    findings.below("memory for requests, as the server counts it", status.memory.used_bytes / MIB, MEMORY_MIB, "MiB")
    findings.count("right answers to others", others.answers)
    findings.count("p99 of others alone", median(alone), "ms")
    findings.count("p99 while writers are taken from", max(filling), "ms")
    findings.count("p99 once they are held up", median(beside), "ms")
    findings.below("p99 beside them over p99 alone", median(beside) / median(alone), RATIO)


def _bad_peers(address: str, setting: Setting, peers: int) -> list[Peers]:
    empty = pb.ClientFrame(commands=[definition()])
    flood = pb.ClientFrame.FromString(frame(*range(COMMANDS)))
    zeros = pb.Input(name="x", zeros=pb.Zeros(datatype=pb.FP32, shape=[LARGE]))
    large = Command(kind=Command.DEFINE, call=1, define=pb.Call(model="scale", inputs=[zeros], outputs=["y"]))
    asked = pb.ClientFrame(commands=[large, *[Command(tag=tag, call=1) for tag in range(1, WINDOW + 1)]])
    made = []
    for name, first, then, most in (("writers", empty, flood, MOST_FRAMES), ("readers", asked, asked, 1)):
        folder = setting.folder / name
        folder.mkdir(exist_ok=True)
        made.append(Peers(address, peers, first, then, most, folder))
    return made


def bad_peers(setting: Setting) -> Findings:
    findings = Findings()
    options = (f"--window={WINDOW}", f"--memory={MEMORY_MIB}MiB")
    with setting.serving(models.scale(setting.folder), *options) as served:
        asyncio.run(_measure(findings, served, setting, setting.of(WRITERS)))
    return findings
