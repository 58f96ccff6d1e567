"""Runs computed from simple arithmetic, with known figures, for the tests of records and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.load.planning.phases import ClosedLoop, Load, OpenLoop, Phase
from headrace.client.load.planning.rate_search import SearchPlan
from headrace.client.load.record.run import Outcome, Run, RunSettings, ServerMeans, Tail
from headrace.client.load.record.samples import NEVER_SENT, Sample, SampleCollector, Samples, ServerTimes
from headrace.client.load.report.rate_search import RateSearch, parse_search, trial_samples

SETTINGS = RunSettings(
    target="127.0.0.1:8001",
    model="resnet50",
    version="",
    protocol="headrace",
    mode="stream",
    streams=2,
    window=64,
    processes=1,
    inputs=("x FP32[1,16] random",),
    outputs=None,
    keep=(),
    timeout=0.25,
    priority=0,
    seed=7,
    started="2025-11-22T20:47:00Z",
    client="0.1.0",
    server="headrace 0.1.0",
    cpus=8,
)


def samples(
    intended: npt.ArrayLike,
    latency: npt.ArrayLike,
    *,
    wait: npt.ArrayLike = 0.0,
    window: npt.ArrayLike = 0.0,
    connection: npt.ArrayLike = 0.0,
    network: npt.ArrayLike = 0.0,
    machine: npt.ArrayLike = 0.0,
    code: npt.ArrayLike = 0,
    times: Sequence[float] = (np.nan, np.nan, np.nan),
) -> Samples:
    """Requests with a latency that includes `wait` in the client, and of that `window` for room in the window.

    A single number applies to all. With a `wait` of infinity, a request is never sent.
    """
    due = np.asarray(intended, np.float64)

    def column(value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.array(np.broadcast_to(np.asarray(value, np.float64), due.shape))

    sent = due + np.where(np.isinf(column(wait)), NEVER_SENT, column(wait))
    waits = map(column, (window, connection, network, machine))
    return Samples(due, sent, due + column(latency), column(code).astype(np.int16), *map(column, times), *waits)


def ended_samples(*latencies: float, code: int = 0) -> Samples:
    """Requests sent on time, after one second of their phase, with these latencies in seconds."""
    collector = SampleCollector()
    for latency in latencies:
        collector.add(Sample(1.0, 1.0, 1.0 + latency, code, ServerTimes()))
    return collector.take()


def outcome(load: Load, measured: Samples, duration: float = 10.0, **fields: Any) -> Outcome:
    elapsed = max(duration, float(measured.ended.max(initial=0.0)))
    all_fields: dict[str, Any] = {"planned": measured.count, "elapsed": elapsed} | fields
    return Outcome(Phase(load, 1.0, duration), samples=measured, **all_fields)


def queue(load: OpenLoop, services: Sequence[float], window: int = 1, until: float = np.inf) -> Outcome:
    """Ten seconds of a server that takes one request after the other, and a client with this window.

    Requests that could not be sent before `until` are never sent.
    """
    intended = np.arange(len(services)) / load.first
    sent, ended = np.empty(len(services)), np.empty(len(services))
    free = 0.0
    for at, service in enumerate(services):
        sent[at] = max(intended[at], ended[at - window]) if at >= window else intended[at]
        free = ended[at] = max(sent[at], free) + service
    wait = sent - intended
    measured = samples(intended, ended - intended, wait=wait, window=wait).select(sent < until)
    unsent = intended[sent >= until]
    tails = (Tail(0, 0, 1, unsent[0], until, window=1.0, connection=0.0, machine=0.0),) if len(unsent) else ()
    return outcome(load, measured, planned=len(services), unsent=len(unsent), tails=tails)


def stalled() -> Outcome:
    """100/s for ten seconds, one in flight at a time; each takes 1 ms, but the 501st takes 1.401 s."""
    return queue(OpenLoop(100, 100), [1.401 if at == 500 else 0.001 for at in range(1000)])


def overloaded() -> Outcome:
    """500/s are planned for ten seconds, but the server can do only 180/s."""
    return queue(OpenLoop(500, 500), [1 / 180] * 5000, window=64, until=10.0)


def steady(load: Load | None = None, latency: float = 0.004, count: int = 2000) -> Outcome:
    """Ten seconds; 0.1 ms in the client, 1 ms waiting and queued, 2 ms running, the rest on the network."""
    load = load or OpenLoop(count / 10, count / 10)
    measured = samples(np.arange(count) * 10 / count, latency, wait=0.0001, times=(0.0004, 0.0006, 0.002))
    return outcome(load, measured)


def sweep(name: str = "sweep.jsonl", slower: float = 1.0) -> Run:
    """1 to 32 in flight, where each adds half a millisecond of latency."""
    loads = (1, 2, 4, 8, 16, 32)
    return Run(SETTINGS, [steady(ClosedLoop(n), slower * (0.004 + 0.0005 * n), 500 * n) for n in loads], name)


def searched(condition: str = "p99<20ms", capacity: float = 400, first: float = 100) -> Run:
    """A search against a server that takes a random, exponential time for each request, one after the other."""
    found = parse_search(condition)
    search = RateSearch(found, SearchPlan(first, "uniform", 1.0, 10.0, trial_samples(found)))
    random, outcomes = np.random.default_rng(1), list[Outcome]()
    while (phase := search.next_phase(outcomes)) is not None:
        assert isinstance(phase.load, OpenLoop)
        services = random.exponential(1 / capacity, round(phase.load.first * 10))
        outcomes.append(queue(phase.load, services.tolist(), window=64, until=10.0))
    return run(*outcomes, search=found.text)


def failed() -> Outcome:
    """No request succeeds, and the last one has no answer."""
    measured = samples(np.arange(100) / 10, 0.002, code=[14] * 99 + [-1])
    return outcome(OpenLoop(10, 10), measured, messages={14: "connection refused\x1b[2J"})


def with_statistics() -> Outcome:
    """A server that reports no times in its answers, but has statistics: means of 1 ms queued and 2 ms running."""
    return outcome(OpenLoop(100, 100), samples(np.arange(1000) / 100, 0.004), server=ServerMeans(1000, 0.001, 0.002))


def run(*outcomes: Outcome, name: str = "run.jsonl", **settings: Any) -> Run:
    return Run(replace(SETTINGS, **settings), list(outcomes), name)
