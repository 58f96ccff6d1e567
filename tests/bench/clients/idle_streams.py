"""Our client with so many `streams` that do nothing, and what they cost the server (`server_pid`) in memory."""

from __future__ import annotations

from contextlib import AsyncExitStack

import numpy as np

import headrace.client as hc
from tests.bench.clients.job import Job, job
from tests.bench.serving.memory import resident_bytes

ROW = np.ones((1, 16), np.float32)


async def main(job: Job) -> None:
    pid, number = job.options["server_pid"], job.options["streams"]
    async with hc.connect(job.target) as server:
        async with server.stream() as stream:
            await (await stream.submit("am", {"x": ROW, "y": ROW}))
        job.begin()
        before = resident_bytes(pid)
        async with AsyncExitStack() as stack:
            for _ in range(number):
                await stack.enter_async_context(server.stream())
            job.report(number, kib=(resident_bytes(pid) - before) / number / 1024)


if __name__ == "__main__":
    hc.run(main(job()))
