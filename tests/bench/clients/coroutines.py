"""Our client with add/multiply: `workers` coroutines on one stream, each submits an inference and awaits it.

`count`: end after so many inferences.
"""

from __future__ import annotations

import asyncio
import math
import time

import numpy as np

import headrace.client as hc
from tests.bench.clients.job import Job, job

ROW = np.ones((1, 16), np.float32)
WARM_UP = 300


async def main(job: Job) -> None:
    took: list[float] = []
    count = job.options.get("count", math.inf)

    async def work(stream: hc.Stream, end: float) -> None:
        began = time.perf_counter()
        while began < end and len(took) < count:
            await (await stream.submit("am", {"x": ROW, "y": ROW}, outputs=["sum"]))
            now = time.perf_counter()
            took.append(now - began)
            began = now

    async with hc.connect(job.target) as server, server.stream() as stream:
        for _ in range(WARM_UP):
            outputs = await (await stream.submit("am", {"x": ROW, "y": ROW}, outputs=["sum"]))
            if not np.array_equal(outputs["sum"], ROW + ROW):
                raise SystemExit("an answer is not the right one")
        end = job.begin()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(job.options["workers"]):
                tasks.create_task(work(stream, end))
        job.report(len(took), took)


if __name__ == "__main__":
    hc.run(main(job()))
