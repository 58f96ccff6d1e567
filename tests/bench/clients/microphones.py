"""Our client with live audio: each of so many `microphones` has a chunk every `interval` seconds, and its own chain.

All have their chunk at the same moment, as those of a conference do. `streams`: `each` has one, or all are `together`
on one. An interval of 0: the next chunk is there as soon as the last one is answered.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import numpy as np

import headrace.client as hc
from tests.bench.clients.job import Job, job

CHUNK = np.zeros((1, 576), np.float32)
WARM_UP = 20


class Microphone:
    def __init__(self, stream: hc.Stream) -> None:
        self._stream = stream
        self._state: hc.Reference | hc.Zeros = hc.zeros((2, 1, 128))
        self.took: list[float] = []

    async def chunk(self) -> None:
        began = time.perf_counter()
        inputs = {"input": CHUNK, "state": self._state}
        ticket = await self._stream.submit("silero", inputs, outputs=["output"], keep=["stateN"])
        self._state = ticket.take("stateN")
        await ticket
        self.took.append(time.perf_counter() - began)

    async def live(self, first: float, interval: float, end: float) -> None:
        due = first
        while (now := time.perf_counter()) < end:
            if interval:
                await asyncio.sleep(max(0.0, due - now))
                due += interval
            await self.chunk()


async def main(job: Job) -> None:
    number, interval = job.options["microphones"], job.options["interval"]
    async with hc.connect(job.target) as server, AsyncExitStack() as stack:
        opened = number if job.options["streams"] == "each" else 1
        streams = [await stack.enter_async_context(server.stream()) for _ in range(opened)]
        microphones = [Microphone(streams[at % opened]) for at in range(number)]
        for _ in range(WARM_UP):
            for each in microphones:
                await each.chunk()
        end = job.begin()
        began = end - job.seconds
        async with asyncio.TaskGroup() as tasks:
            for each in microphones:
                each.took.clear()
                tasks.create_task(each.live(began, interval, end))
        took = [seconds for each in microphones for seconds in each.took]
        job.report(len(took), took)


if __name__ == "__main__":
    hc.run(main(job()))
