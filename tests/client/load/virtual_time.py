"""An event loop whose time passes only when there is nothing else to do, or in `burn`, and fake callers for it."""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from headrace.client.load.callers.caller import Answer, Caller, Inputs
from headrace.client.load.callers.departure import Departure
from headrace.client.load.planning.phases import Phase
from headrace.client.load.planning.schedule import WHOLE, Share
from headrace.client.load.record.samples import SampleCollector, Samples, ServerTimes
from headrace.client.load.sending.run_phase import ShareResult, run_phase

T = TypeVar("T")

TURN_SECONDS = 1e-6
"""How long a turn of the loop takes."""
START = 1.0
"""When a phase without a warm-up begins, on the clock of the loop."""


class VirtualSelector(selectors.SelectSelector):
    passed = idle = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "the loop would wait forever"
            self.passed += max(timeout, TURN_SECONDS)
            self.idle += max(timeout, TURN_SECONDS)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = VirtualSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.passed


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


def idle() -> float:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.selector.idle


def used() -> float:
    return now() - idle()


def burn(seconds: float) -> None:
    """Take this much of the processor's time: nothing else happens meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.selector.passed += seconds


class FakeCaller:
    """Answers each request after a time and with a code that `script` gives for its number.

    Sending one takes `work` seconds of the processor. Between the moments `down` (on the clock of the phase) there is
    no connection, and what is to be sent waits for one.
    """

    def __init__(
        self,
        script: Callable[[int], tuple[float, int]] = lambda number: (0.0, 0),
        *,
        work: float = 0.0,
        down: tuple[float, float] = (math.inf, math.inf),
    ) -> None:
        self.work = work
        self.down = down
        self.script = script
        self.calls: list[Inputs] = []
        self.in_flight = self.most_in_flight = 0

    @property
    def outage_seconds(self) -> float:
        begin, end = self.down
        return min(max(now() - START - begin, 0.0), end - begin) if begin < math.inf else 0.0

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        number = len(self.calls)
        self.calls.append(inputs)
        begin, end = self.down
        if begin <= now() - START < end:
            departure.begin_wait("connection", now())
            await asyncio.sleep(START + end - now())
            departure.end_wait(now())
        burn(self.work)
        departure.sent = now()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        seconds, code = self.script(number)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.in_flight -= 1
        message = f"number {number} failed" if code else ""
        return Answer(departure.sent, now(), code, message, ServerTimes(queued=0.25, running=0.5))


def caller_taking(seconds: float) -> FakeCaller:
    return FakeCaller(lambda number: (seconds, 0))


def numbered_inputs() -> Iterator[Inputs]:
    return ({"x": np.array(number)} for number in itertools.count())


async def run_virtual_phase(
    phase: Phase,
    callers: Sequence[Caller],
    *,
    share: Share = WHOLE,
    window: int = 64,
    patience: float = 5.0,
    stop_after: float = math.inf,
    late: float = -1.0,
    drained: list[Samples] | None = None,
) -> tuple[ShareResult, Samples]:
    """The result and the samples, in the order of their intended times.

    If `drained` is given, samples are taken into it every 0.1 s. `stop_after`: when the phase is stopped, on its own
    clock. `late`: how long after the start of the warm-up the phase is run.
    """
    loop, stop, collector = asyncio.get_running_loop(), asyncio.Event(), SampleCollector()
    start = now() + phase.warmup - late
    if stop_after < math.inf:
        loop.call_at(start + stop_after, stop.set)

    async def drain(into: list[Samples]) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(start + turn / 10 - 0.005 - now())
            into.append(collector.take())

    draining = None if drained is None else asyncio.create_task(drain(drained))
    result = await run_phase(
        phase,
        share,
        1,
        start,
        callers,
        window,
        numbered_inputs(),
        collector,
        patience,
        stop,
        now=now,
        idle=idle,
        used=used,
    )
    if draining:
        draining.cancel()
    samples = collector.take()
    return result, samples.select(np.argsort(samples.intended, kind="stable"))
