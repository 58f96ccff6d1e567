"""Runs one process's share of a phase."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headrace.client.load.callers.caller import Caller, Inputs
from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.planning.schedule import (
    Share,
    due_times,
    planned_count,
    planned_seconds,
    split_count,
    split_evenly,
)
from headrace.client.load.record.run import Tail
from headrace.client.load.record.samples import SampleCollector
from headrace.client.load.sending.closed_loop import send_closed_loop
from headrace.client.load.sending.open_loop import send_open_loop
from headrace.client.load.sending.pacer import Clock, Pacer, Sleep
from headrace.client.load.sending.picker import CallerPicker
from headrace.client.load.sending.tracker import Overdue, RequestTracker, Task

SEND_GRACE_SECONDS = 0.001
"""After the duration, requests that were due at its very end may still be sent for this long."""
STOP_PATIENCE_SECONDS = 1.0
"""A phase that was stopped waits at most this long for answers."""


class ShareResult(NamedTuple):
    """What came of one process's share of a phase, besides the samples. The names are those of `Outcome`."""

    planned: int
    unsent: int
    elapsed: float
    messages: dict[int, str]
    warmup_failures: int
    """Requests of the warm-up that failed; they are not recorded anywhere else."""
    tail: Tail | None = None


async def run_phase(
    phase: Phase,
    share: Share,
    seed: int,
    start: float,
    callers: Sequence[Caller],
    window: int,
    inputs: Iterator[Inputs],
    collector: SampleCollector,
    patience: float,
    stop: asyncio.Event,
    now: Clock = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
    idle: Clock = time.perf_counter,
    used: Clock = time.process_time,
) -> ShareResult:
    """Send this process's share of a phase. Samples go to the collector as the answers arrive.

    `start` is time 0 of the measured part on the clock `now`, the same in all processes. `window` limits how many
    requests an open loop has in flight per caller. `inputs` is endless. `patience` is how many seconds after the end of
    the plan unanswered requests are given up; an open loop with a count has the same time to send requests that are
    late. Setting `stop` ends the phase early. `idle` is a clock that runs only while the event loop has nothing to do,
    and `used` one that runs only while this process has a processor.
    """
    pacer = Pacer(lambda: now() - start, sleep, idle, used)
    tracker = RequestTracker(start, collector)
    end = planned_seconds(phase)
    async with asyncio.TaskGroup() as group:
        if isinstance(phase.load, OpenLoop):
            plan, picker = due_times(phase, seed, share), CallerPicker(callers, window)
            work = send_open_loop(plan, picker, inputs, tracker, pacer, group)
            send_until = end + (SEND_GRACE_SECONDS if phase.count is None else patience)
        else:
            loops = split_evenly(phase.load.concurrency, share)
            count = math.inf if phase.count is None else split_count(phase.count, phase.load.concurrency, share)
            caller_of_loop = list(itertools.islice(itertools.cycle(callers), loops))
            work = send_closed_loop(caller_of_loop, count, phase.warmup, inputs, tracker, pacer, group)
            send_until = end
        sending, stopping = group.create_task(work), group.create_task(stop.wait())
        await _wait_for_either(sending, stopping, send_until - pacer.now())
        sending.cancel()
        tracker.closed = True
        stopped_at = pacer.now() if stop.is_set() else math.inf

        ended = group.create_task(tracker.wait_idle())
        await _wait_for_either(ended, stopping, max(end - pacer.now(), 0) + patience)
        if stop.is_set():
            end = min(end, pacer.now())
            await asyncio.wait({ended}, timeout=min(patience, STOP_PATIENCE_SECONDS))
        for task in (*tracker.give_up(pacer.now()), stopping):
            task.cancel()

    if isinstance(phase.load, ClosedLoop):
        planned = tracker.begun
    else:
        planned = planned_count(phase, seed, share, until=stopped_at)
    elapsed = max(tracker.last_answer, 0 if math.isinf(end) else end)
    unsent = planned - tracker.begun
    tail = _tail(tracker.overdue, seed, share, stopped_at) if unsent and tracker.overdue else None
    return ShareResult(planned, unsent, elapsed, tracker.messages, tracker.warmup_failures, tail)


def _tail(overdue: Overdue, seed: int, share: Share, stopped_at: float) -> Tail:
    waited = overdue.now - overdue.due
    shares = {cause: seconds / waited if waited > 0 else 0.0 for cause, seconds in overdue.waits._asdict().items()}
    return Tail(
        seed=seed,
        process=share.index,
        processes=share.processes,
        first=max(overdue.due, 0.0),
        until=min(overdue.now, stopped_at),
        window=shares["window"],
        connection=shares["connection"],
        machine=shares["machine"],
    )


async def _wait_for_either(work: Task, stopping: Task, seconds: float) -> None:
    """Wait until one of the tasks is done or the time is up; `seconds` may be infinite."""
    timeout = None if math.isinf(seconds) else max(seconds, 0)
    await asyncio.wait({work, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
