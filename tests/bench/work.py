"""The work of the clients in each case; every function returns its figures."""

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
    """Add/multiply; each coroutine submits and awaits. Inferences per second, and their median time in seconds."""
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
    """Inferences per second of one stream with `ahead` of them in flight."""
    async with hc.connect(target) as server, server.stream() as stream:
        items = (inputs for _ in range(count + ahead))
        began, done = 0.0, 0
        async for _ in stream.map(model, items, outputs=[output], ahead=ahead):
            done += 1
            if done == ahead:
                began = time.perf_counter()  # those before were the warm-up
        return count / (time.perf_counter() - began)


async def chains(target: str, number: int, steps: int, ahead: int) -> tuple[float, float]:
    """Steps per second of `number` Silero chains on one stream, and the time of the fastest over the slowest's."""
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
    """Pairs per second of two models, where the first passes 4 MB to the second; small inputs and outputs, one pair at
    a time.
    """
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
    """The same with 4 MB as input, which stay on the server or are sent back."""
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
    """Bytes of the server's memory per idle stream, with `number` of them open."""
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
