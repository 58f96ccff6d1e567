"""Numbers that are sent at a rate over several streams: each answer says which number it belongs to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import numpy as np

import headrace.client as hc


class Numbers:
    """Of the model `scale`. `latencies` are seconds from when a number was due."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.latencies: list[float] = []
        self.answers: list[int] = []
        self.sent = 0

    async def send(self, streams: Sequence[hc.Stream], until: asyncio.Event) -> None:
        """Send until the event is set, and wait for every answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            while not until.is_set():
                due = began + self.sent / self.rate
                await asyncio.sleep(due - loop.time())
                tasks.create_task(self._one(streams[self.sent % len(streams)], self.sent, due))
                self.sent += 1

    async def _one(self, stream: hc.Stream, number: int, due: float) -> None:
        y = (await (await stream.submit("scale", {"x": np.full(4, number, np.float32)})))["y"]
        assert (y == y[0]).all()
        self.answers.append(round((float(y[0]) - 1) / 2))
        self.latencies.append(asyncio.get_running_loop().time() - due)

    def check(self) -> None:
        """None is lost, and none is given twice."""
        assert self.sent
        assert sorted(self.answers) == list(range(self.sent))


def homes(streams: Sequence[hc.Stream]) -> list[int]:
    """How many of the streams each process serves that serves any."""
    return sorted(Counter(stream.hello.instance for stream in streams).values())


def at(values: Sequence[float], part: float) -> str:
    """A quantile of seconds."""
    return f"{sorted(values)[min(len(values) - 1, int(len(values) * part))] * 1000:.0f} ms"
