"""What clients do in each case; each function returns a figure."""

from __future__ import annotations

import asyncio
import time
from statistics import median

import numpy as np
import numpy.typing as npt

import headrace.client as hc

ROW = np.ones((1, 16), np.float32)
CHUNK = np.zeros((1, 576), np.float32)


async def coroutines(target: str, workers: int, count: int) -> tuple[float, float]:
    """Add/multiply: each coroutine submits and awaits. Inferences a second, and the median time of one in seconds."""
    took: list[float] = []

    async def work(stream: hc.Stream, share: int) -> None:
        for _ in range(share):
            began = time.perf_counter()
            await (await stream.submit("am", {"x": ROW, "y": ROW}, outputs=["sum"]))
            took.append(time.perf_counter() - began)

    async with hc.connect(target) as server, server.stream() as stream:
        await work(stream, 100)
        took.clear()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work(stream, count // workers))
        return len(took) / (time.perf_counter() - began), median(took)


async def pipelined(
    target: str, model: str, inputs: dict[str, npt.NDArray[np.float32]], output: str, count: int, ahead: int
) -> float:
    """Inferences a second of one stream with so many ahead."""
    async with hc.connect(target) as server, server.stream() as stream:
        items = (inputs for _ in range(count + ahead))
        began, done = 0.0, 0
        async for _ in stream.map(model, items, outputs=[output], ahead=ahead):
            done += 1
            if done == ahead:
                began = time.perf_counter()  # what came before has warmed up
        return count / (time.perf_counter() - began)


async def chains(target: str, number: int, steps: int, ahead: int) -> tuple[float, float]:
    """Steps a second of so many Silero chains on one stream, and how fast the slowest is beside the fastest."""
    ends: list[float] = []

    async def chain(stream: hc.Stream) -> None:
        state: hc.Reference | hc.Zeros = hc.zeros((2, 1, 128))
        tickets: list[hc.Ticket] = []
        for step in range(steps):
            inputs = {"input": CHUNK, "state": state}
            ticket = await stream.submit("silero", inputs, outputs=["output"], keep=["stateN"])
            state = ticket.take("stateN")
            tickets.append(ticket)
            if step >= ahead:
                await tickets[step - ahead]
        await tickets[-1]
        ends.append(time.perf_counter())

    async with hc.connect(target) as server, server.stream() as stream:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(number):
                tasks.create_task(chain(stream))
        return number * steps / (max(ends) - began), (min(ends) - began) / (max(ends) - began)


async def two_models(target: str, count: int, *, by_ticket: bool) -> float:
    """Pairs a second of two models, the first of which gives the second 4 MB; small tensors go in and out. Window 1."""
    async with hc.connect(target) as server, server.stream() as stream:
        began = time.perf_counter()
        for _ in range(count):
            if by_ticket:
                first = await stream.submit("wide", {"x": ROW}, outputs=[], keep=["large"])
                second = await stream.submit("narrow", {"large": first.take("large")}, outputs=["means"])
            else:
                first = await stream.submit("wide", {"x": ROW}, outputs=["large"])
                second = await stream.submit("narrow", await first, outputs=["means"])
            await second
        return count / (time.perf_counter() - began)


async def large_ends(target: str, count: int, *, by_ticket: bool) -> float:
    """The same where 4 MB go in, and stay on the server or come out."""
    x = np.ones(1 << 20, np.float32)
    async with hc.connect(target) as server, server.stream() as stream:
        began = time.perf_counter()
        for _ in range(count):
            if by_ticket:
                first = await stream.submit("large", {"x": x}, outputs=[], keep=["y"])
                second = await stream.submit("large", {"x": first.take("y")}, outputs=[], keep=["y"])
                await second
                second.release()
            else:
                y = (await (await stream.submit("large", {"x": x}, outputs=["y"])))["y"]
                await (await stream.submit("large", {"x": y}, outputs=["y"]))
        return count / (time.perf_counter() - began)


async def idle_streams(target: str, number: int, memory: object) -> float:
    """Bytes of the server for each of so many open streams that do nothing."""
    assert callable(memory)
    async with hc.connect(target) as server:
        async with server.stream() as stream:
            await (await stream.submit("am", {"x": ROW, "y": ROW}))
        before = memory()
        streams = [server.stream() for _ in range(number)]
        for stream in streams:
            await stream.__aenter__()
        grown: int = memory() - before
        for stream in streams:
            await stream.__aexit__(None, None, None)
        return grown / number
