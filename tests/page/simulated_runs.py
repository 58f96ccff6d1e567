"""Runs that look like those of real servers, from a simulated queue: a few slots, first come first served."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import numpy as np

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.planning.rate_search import SearchPlan
from headrace.client.load.record.run import Outcome, Run, ServerLoad, Tail
from headrace.client.load.record.samples import NO_ANSWER, Sample, SampleCollector, Samples, ServerTimes, Waits
from headrace.client.load.report.rate_search import RateSearch, parse_search, trial_samples
from tests.client.load import synthetic_runs

SETTINGS = replace(
    synthetic_runs.SETTINGS,
    target="localhost:8001",
    version="3",
    inputs=("x FP32[1,3,224,224] random",),
    timeout=None,
    started="2025-03-14T09:26:53Z",
    cpus=16,
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <b>&amp;\" ' %{y} $x$ \u2028 "
UNAVAILABLE = 14
DEADLINE_EXCEEDED = 4


class Queue:
    """A server with a number of slots and runs of about `running` milliseconds, which may stall once."""

    def __init__(self, slots: int, running: float, stall: tuple[float, float] | None = None, seed: int = 1) -> None:
        self._free = [-math.inf] * slots
        self._running = running / 1e3
        self._stall = stall
        self._random = np.random.default_rng(seed)

    def answer(self, intended: float, sent: float, code: int = 0) -> Sample:
        way = 0.0002 * self._random.lognormal(0, 0.4)
        came = sent + way
        begun = max(came, heapq.heappop(self._free))
        if self._stall and self._stall[0] <= begun < sum(self._stall):
            begun = sum(self._stall)
        running = self._running * self._random.lognormal(0, 0.25)
        heapq.heappush(self._free, begun + running)
        return Sample(intended, sent, begun + running + way, code, ServerTimes(0.0, begun - came, running))


def open_loop(
    rate: float, last: float, seconds: float, queue: Queue, window: int = 128, failing: tuple[float, float] = (0, 0)
) -> Outcome:
    """An open loop. Between the two seconds `failing`, one request in five fails."""
    collector = SampleCollector()
    in_flight: list[float] = []
    at, planned, unsent, first_unsent = 0.0, 0, 0, seconds
    while at < seconds:
        planned += 1
        full = len(in_flight) >= window
        sent = max(at + 0.00002, in_flight[0]) if full else at + 0.00002
        if sent > seconds:
            unsent += 1
            first_unsent = min(first_unsent, at)
        else:
            if full:
                heapq.heappop(in_flight)
            code = UNAVAILABLE if failing[0] <= at < failing[1] and planned % 5 == 0 else 0
            sample = queue.answer(at, sent, code)._replace(waits=Waits(window=sent - at - 0.00002))
            collector.add(sample)
            heapq.heappush(in_flight, sample.ended)
        at += 1 / (rate + (last - rate) * at / seconds)
    samples = collector.take()
    messages = {UNAVAILABLE: "the server is draining"} if failing[1] else {}
    elapsed = max(seconds, float(samples.ended.max()))
    phase = Phase(OpenLoop(rate, last), 1.0, seconds)
    tails = (Tail(0, 0, 1, first_unsent, seconds, window=1.0, connection=0.0, machine=0.0),) if unsent else ()
    return Outcome(phase, planned, unsent, elapsed, samples, messages, tails=tails)


def closed_loop(concurrency: int, seconds: float, queue: Queue) -> Outcome:
    collector = SampleCollector()
    turns = [index * 1e-5 for index in range(concurrency)]
    while turns[0] < seconds:
        at = heapq.heappop(turns)
        sample = queue.answer(at, at + 0.00002)
        collector.add(sample)
        heapq.heappush(turns, sample.ended)
    samples = collector.take()
    return Outcome(Phase(ClosedLoop(concurrency), 1.0, seconds), samples.count, 0, float(samples.ended.max()), samples)


def stalled() -> Run:
    """200/s for 20 s, with a stall of 1.4 s, and some failures later."""
    outcome = open_loop(200, 200, 20, Queue(8, 6.0, stall=(8.0, 1.4)), window=32, failing=(15, 16))
    return Run(SETTINGS, [outcome], "stall.jsonl")


def overloaded() -> Run:
    """A rate that grows beyond what the server can handle."""
    return Run(SETTINGS, [open_loop(200, 2000, 15, Queue(8, 8.0), window=256)], "ramp.jsonl")


def sweep(running: float = 6.0, name: str = "sweep.jsonl") -> Run:
    phases = [closed_loop(wide, 4, Queue(8, running, seed=wide)) for wide in (1, 2, 4, 8, 16, 32)]
    return Run(SETTINGS, phases, name)


def compared() -> list[Run]:
    before = open_loop(600, 600, 10, Queue(8, 9.0))
    after = open_loop(600, 600, 10, Queue(8, 7.0, seed=2))
    newer = replace(SETTINGS, started="2025-03-15T10:00:00Z", server="headrace 0.2.0")
    return [Run(SETTINGS, [before], "before.jsonl"), Run(newer, [after], "after.jsonl")]


def search() -> Run:
    """The highest rate at which p99 stays below 30 ms."""
    condition = parse_search("p99<30ms")
    plan = RateSearch(condition, SearchPlan(100, "uniform", 1.0, 4.0, trial_samples(condition)))
    outcomes: list[Outcome] = []
    while (phase := plan.next_phase(outcomes)) is not None:
        assert isinstance(phase.load, OpenLoop)
        outcomes.append(open_loop(phase.load.first, phase.load.first, 4, Queue(8, 9.0, seed=len(outcomes)), window=256))
    return Run(replace(SETTINGS, search=condition.text), outcomes, "search.jsonl")


def repeated() -> list[Run]:
    """A load that was measured three times, before and after a change that makes no difference, on other streams."""
    runs = []
    for at, name in enumerate(("before", "after")):
        outcomes = [open_loop(400, 400, 4, Queue(8, 9.0, seed=3 * at + turn)) for turn in range(3)]
        runs.append(Run(replace(SETTINGS, repeat=3, streams=2 + at), outcomes, f"{name}.jsonl"))
    return runs


def watched() -> Run:
    """A server that says what it holds while a rate grows past what it can do; the run begins at ten to midnight."""
    outcome = open_loop(200, 1200, 30, Queue(8, 8.0), window=256)
    outcome.began = 1763855395.0
    for second in range(30):
        flying = 4 + max(0, second - 20) ** 2 * 2
        memory = (380 << 20) + (second << 21)
        outcome.server_loads.append(ServerLoad(second + 0.3, memory, flying, max(0, flying - 8), min(8, flying), 8))
    return Run(SETTINGS, [outcome], "watched.jsonl")


def failed() -> Run:
    """No request succeeds: half are refused, half never answered."""
    count = 400
    intended = np.arange(count) / 100
    nothing = np.full(count, np.nan)
    code = np.where(np.arange(count) % 2, UNAVAILABLE, NO_ANSWER).astype(np.int16)
    ended = np.where(code == NO_ANSWER, 5.0, intended + 0.001)
    samples = Samples(intended, intended, ended, code, nothing, nothing, nothing, *np.zeros((4, count)))
    outcome = Outcome(Phase(OpenLoop(100, 100), 0.0, 4.0), count, 0, 5.0, samples, {UNAVAILABLE: "connection refused"})
    return Run(SETTINGS, [outcome], "failed.jsonl")


def hostile() -> list[Run]:
    """Every untrusted text tries to break out of its place in the page."""
    settings = replace(
        SETTINGS,
        target=HOSTILE,
        model=HOSTILE,
        version=HOSTILE,
        inputs=(HOSTILE,),
        outputs=(HOSTILE,),
        keep=(HOSTILE,),
        started=HOSTILE,
        client=HOSTILE,
        server=HOSTILE,
    )
    outcomes = [open_loop(50, 50, 4, Queue(1, 5.0), failing=(1, 2)) for _ in range(2)]
    for outcome in outcomes:
        outcome.messages = {UNAVAILABLE: HOSTILE}
    return [Run(settings, [outcome], HOSTILE + str(index)) for index, outcome in enumerate(outcomes)]
