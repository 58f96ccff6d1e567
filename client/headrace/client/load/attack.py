"""A phase in one process."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headrace.client.load.calling import Caller, Inputs
from headrace.client.load.closed_loop import send_closed
from headrace.client.load.ledger import Ledger, Task
from headrace.client.load.open_loop import send_open
from headrace.client.load.pacer import Now, Pacer, Sleep
from headrace.client.load.places import Places
from headrace.client.load.plan import Share, concurrency_of, count_of, due_times, planned, seconds_of
from headrace.client.load.run import ClosedLoop, OpenLoop, Phase
from headrace.client.load.samples import Collector

LAST = 0.001
"""Seconds after a duration in which what was due at its very end may still be sent: nobody is on time to less."""
HURRY = 1.0
"""Seconds that a phase that was stopped waits for answers, at most."""


class Part(NamedTuple):
    """What one process tells of a phase beside the samples, with the names of `Outcome`."""

    planned: int
    unsent: int
    elapsed: float
    messages: dict[int, str]
    warmup_failures: int
    """Requests of the warm-up that have failed; they are recorded nowhere else."""
    no_room: int = 0


async def attack(
    phase: Phase,
    share: Share,
    seed: int,
    begin: float,
    callers: Sequence[Caller],
    window: int,
    inputs: Iterator[Inputs],
    collector: Collector,
    patience: float,
    stop: asyncio.Event,
    now: Now = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> Part:
    """Run this process's share of a phase; samples come to the collector with the answers.

    `begin`: time 0 of the measured part on the clock `now`, the same in all processes. `window`: how many requests an
    open loop has in flight at each caller, at most. `inputs` never ends. `patience`: seconds after the end of the plan
    until requests without an answer are given up; an open loop with a count has as long to send what is late. `stop`
    ends all early.
    """
    pacer = Pacer(lambda: now() - begin, sleep)
    ledger = Ledger(begin, collector)
    end = seconds_of(phase)
    async with asyncio.TaskGroup() as group:
        if isinstance(phase.load, OpenLoop):
            plan, places = due_times(phase, seed, share), Places(callers, window)
            work = send_open(plan, places, inputs, ledger, pacer, group)
            last = end + (LAST if phase.count is None else patience)
        else:
            loops = concurrency_of(phase.load.concurrency, share)
            count = math.inf if phase.count is None else count_of(phase.count, phase.load.concurrency, share)
            spread = list(itertools.islice(itertools.cycle(callers), loops))
            work = send_closed(spread, count, phase.warmup, inputs, ledger, pacer, group)
            last = end
        sending, stopping = group.create_task(work), group.create_task(stop.wait())
        await _first(sending, stopping, last - pacer.now())
        sending.cancel()
        ledger.closed = True
        stopped = pacer.now() if stop.is_set() else math.inf

        settling = group.create_task(ledger.settled())
        await _first(settling, stopping, max(end - pacer.now(), 0) + patience)
        if stop.is_set():
            end = min(end, pacer.now())
            await asyncio.wait({settling}, timeout=min(patience, HURRY))
        for task in (*ledger.give_up(pacer.now()), stopping):
            task.cancel()

    due = ledger.sent if isinstance(phase.load, ClosedLoop) else planned(phase, seed, share, until=stopped)
    elapsed = max(ledger.last_answer, 0 if math.isinf(end) else end)
    return Part(due, due - ledger.sent, elapsed, ledger.messages, ledger.warmup_failures, ledger.no_room)


async def _first(work: Task, stopping: Task, seconds: float) -> None:
    """Wait for either, or until the time is over, which may be never."""
    timeout = None if math.isinf(seconds) else max(seconds, 0)
    await asyncio.wait({work, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
