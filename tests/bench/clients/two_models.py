"""Our client with two models, of which the first passes 4 MB to the second; one pair at a time.

`by_ticket`: the 4 MB stay on the server; else they go to the client and back. `large_ends`: the pair takes and gives
4 MB too, else 64 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import numpy as np

import headrace.client as hc
from tests.bench.clients.job import Job, job

ROW = np.ones((1, 16), np.float32)
LARGE = np.ones(1 << 20, np.float32)
WARM_UP = 5
Pair = Callable[[hc.Stream], Awaitable[object]]


async def small_by_ticket(stream: hc.Stream) -> None:
    first = await stream.submit("wide", {"x": ROW}, outputs=[], keep=["large"])
    await (await stream.submit("narrow", {"large": first.take("large")}, outputs=["means"]))


async def small_by_round_trips(stream: hc.Stream) -> None:
    first = await stream.submit("wide", {"x": ROW}, outputs=["large"])
    await (await stream.submit("narrow", await first, outputs=["means"]))


async def large_by_ticket(stream: hc.Stream) -> None:
    first = await stream.submit("large", {"x": LARGE}, outputs=[], keep=["y"])
    second = await stream.submit("large", {"x": first.take("y")}, outputs=[], keep=["y"])
    await second
    second.release()


async def large_by_round_trips(stream: hc.Stream) -> None:
    y = (await (await stream.submit("large", {"x": LARGE}, outputs=["y"])))["y"]
    await (await stream.submit("large", {"x": y}, outputs=["y"]))


PAIRS: dict[tuple[bool, bool], Pair] = {
    (False, True): small_by_ticket,
    (False, False): small_by_round_trips,
    (True, True): large_by_ticket,
    (True, False): large_by_round_trips,
}


async def main(job: Job) -> None:
    pair = PAIRS[job.options["large_ends"], job.options["by_ticket"]]
    async with hc.connect(job.target) as server, server.stream() as stream:
        for _ in range(WARM_UP):
            await pair(stream)
        end, took = job.begin(), list[float]()
        while (began := time.perf_counter()) < end:
            await pair(stream)
            took.append(time.perf_counter() - began)
        job.report(len(took), took)


if __name__ == "__main__":
    hc.run(main(job()))
