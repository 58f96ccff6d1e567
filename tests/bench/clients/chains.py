"""Our client with recurrent chains of Silero's model: so many `chains`, each `ahead` steps ahead of its results."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import numpy as np

import headrace.client as hc
from tests.bench.clients.job import Job, job

CHUNK = np.zeros((1, 576), np.float32)
WARM_UP = 64


async def chain(stream: hc.Stream, ahead: int, end: float, least: int = 0) -> int:
    """The steps of one chain, all of them done: as many as begin before `end`, but at least so many."""
    state: hc.Reference | hc.Zeros = hc.zeros((2, 1, 128))
    tickets: deque[hc.Ticket] = deque()
    steps = 0
    while steps < least or time.perf_counter() < end:
        inputs = {"input": CHUNK, "state": state}
        ticket = await stream.submit("silero", inputs, outputs=["output"], keep=["stateN"])
        state = ticket.take("stateN")
        tickets.append(ticket)
        if len(tickets) > ahead:
            await tickets.popleft()
        steps += 1
    await tickets[-1]
    return steps


async def main(job: Job) -> None:
    number, ahead = job.options["chains"], job.options["ahead"]
    async with hc.connect(job.target) as server, server.stream() as stream:
        await chain(stream, ahead, 0.0, WARM_UP)
        end = job.begin()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(chain(stream, ahead, end)) for _ in range(number)]
        steps = [each.result() for each in running]
        job.report(sum(steps), slowest=min(steps), fastest=max(steps))


if __name__ == "__main__":
    hc.run(main(job()))
