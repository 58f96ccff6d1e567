"""A stream of grpc.aio to the echo, with `window` messages in flight: the transport that our client has too."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import grpc
import grpc.aio

from tests.bench.clients.job import Job, job
from tests.bench.references.echo import OPTIONS, STREAM

WARM_UP = 300


async def main(job: Job) -> None:
    window, message = asyncio.Semaphore(job.options["window"]), bytes(job.options["bytes"])
    sent: deque[float] = deque()
    took: list[float] = []
    async with grpc.aio.insecure_channel(job.target, options=OPTIONS) as channel:
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        call = start()

        async def read() -> None:
            while await call.read() is not grpc.aio.EOF:
                took.append(time.perf_counter() - sent.popleft())
                window.release()

        for _ in range(WARM_UP):
            await call.write(message)
            await call.read()
        end = job.begin()
        reader = asyncio.create_task(read())
        while time.perf_counter() < end:
            await window.acquire()
            sent.append(time.perf_counter())
            await call.write(message)
        await call.done_writing()
        await reader
        job.report(len(took), took)


if __name__ == "__main__":
    asyncio.run(main(job()))
