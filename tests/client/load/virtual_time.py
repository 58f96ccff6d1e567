"""An event loop whose time passes only when nothing else is to be done, and fake callers for it."""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from headrace.client.load.attack import Part, attack
from headrace.client.load.calling import Answer, Caller, Inputs
from headrace.client.load.plan import WHOLE, Share
from headrace.client.load.run import Phase
from headrace.client.load.samples import Collector, Samples, Times

T = TypeVar("T")

TURN = 1e-6
"""Seconds that a turn of the loop takes."""


class VirtualSelector(selectors.SelectSelector):
    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen again"
            self.passed += max(timeout, TURN)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = VirtualSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.passed


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeCaller:
    """Answers each request after so many seconds, with a code: as a function of its number tells."""

    def __init__(self, script: Callable[[int], tuple[float, int]] = lambda number: (0.0, 0)) -> None:
        self.script = script
        self.calls: list[Inputs] = []
        self.in_flight = self.most = 0

    async def call(self, inputs: Inputs) -> Answer:
        sent, number = now(), len(self.calls)
        self.calls.append(inputs)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        seconds, code = self.script(number)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.in_flight -= 1
        message = f"number {number} failed" if code else ""
        return Answer(sent, now(), code, message, Times(queued=0.25, running=0.5))


def taking(seconds: float) -> FakeCaller:
    return FakeCaller(lambda number: (seconds, 0))


def numbered() -> Iterator[Inputs]:
    return ({"x": np.array(number)} for number in itertools.count())


async def attacked(
    phase: Phase,
    callers: Sequence[Caller],
    *,
    share: Share = WHOLE,
    window: int = 64,
    patience: float = 5.0,
    stop_after: float = math.inf,
    late: float = -1.0,
    drained: list[Samples] | None = None,
) -> tuple[Part, Samples]:
    """The samples in the order of their intended times, but those that went to `drained`, every 0.1 s.

    `stop_after`: when it is stopped, on the clock of the phase. `late`: how long after the warm-up should begin the
    call is made.
    """
    loop, stop, collector = asyncio.get_running_loop(), asyncio.Event(), Collector()
    begin = now() + phase.warmup - late
    if stop_after < math.inf:
        loop.call_at(begin + stop_after, stop.set)

    async def drain(into: list[Samples]) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(begin + turn / 10 - 0.005 - now())
            into.append(collector.take())

    draining = None if drained is None else asyncio.create_task(drain(drained))
    part = await attack(phase, share, 1, begin, callers, window, numbered(), collector, patience, stop, now=now)
    if draining:
        draining.cancel()
    samples = collector.take()
    return part, samples.where(np.argsort(samples.intended, kind="stable"))
