"""Our client with `stream.map`: `ahead` inferences of a `model` in flight, with an input of a `shape` and `dtype`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import headrace.client as hc
from tests.bench.clients.job import Job, job

Inputs = dict[str, npt.NDArray[np.generic]]


async def main(job: Job) -> None:
    given = job.options
    numbers = np.random.default_rng(1).random(given["shape"]) * given.get("scale", 1)
    inputs: Inputs = {given["input"]: numbers.astype(given["dtype"])}

    def until(end: float, least: int) -> Iterator[Inputs]:
        sent = 0
        while sent < least or time.perf_counter() < end:
            sent += 1
            yield inputs

    async with hc.connect(job.target) as server, server.stream() as stream:

        async def run(end: float, least: int = 0) -> int:
            mapped = stream.map(given["model"], until(end, least), outputs=[given["output"]], ahead=given["ahead"])
            return len([None async for _ in mapped])

        await run(0.0, 2 * given["ahead"])
        job.report(await run(job.begin()))


if __name__ == "__main__":
    hc.run(main(job()))
