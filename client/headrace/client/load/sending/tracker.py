"""Keeps track of the requests of a phase in one process."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from headrace.client.load.callers.caller import Answer
from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.samples import NO_ANSWER, UNKNOWN_TIMES, Sample, SampleCollector, Waits

Task = asyncio.Task[Any]


def current_task() -> Task:
    task = asyncio.current_task()
    assert task is not None, "not in a task"
    return task


class Overdue(NamedTuple):
    """The first request that was due and not taken up when sending ended at `now`. All behind it wait for the same."""

    due: float
    now: float
    waits: Waits


class RequestTracker:
    """Makes a sample of every request whose intended time is 0 or later. Of earlier ones it only counts the failures.

    Moments are in seconds since `start`, a moment of `time.perf_counter()`. A task has at most one request in flight.
    """

    def __init__(self, start: float, collector: SampleCollector) -> None:
        self.closed = False
        """No further request may be sent."""
        self.begun = 0
        """Requests that were taken up, whether they have left this client or not."""
        self.overdue: Overdue | None = None
        self.last_answer = 0.0
        self.warmup_failures = 0
        self.messages: dict[int, str] = {}
        self._start = start
        self._collector = collector
        self._in_flight: dict[Task, tuple[float, Departure]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, task: Task, intended: float, departure: Departure) -> None:
        """A task has begun a request."""
        self._in_flight[task] = intended, departure
        self._idle.clear()
        if intended >= 0:
            self.begun += 1

    def finish(self, task: Task, answer: Answer) -> None:
        """The request of a task has ended. Ignored after `give_up`."""
        entry = self._in_flight.pop(task, None)
        if entry is None:
            return
        intended, departure = entry
        sent, ended, code, message, times = answer
        if intended >= 0:
            waits = departure.waits(ended)
            ended -= self._start
            self.last_answer = max(self.last_answer, ended)
            self._collector.add(Sample(intended, sent - self._start, ended, code, times, waits))
            if code:
                self.messages.setdefault(code, message)
        elif code:
            self.warmup_failures += 1
        if not self._in_flight:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()

    def give_up(self, now: float) -> list[Task]:
        """Record all requests in flight as unanswered. Returns their tasks, for the caller to cancel."""
        abandoned, self._in_flight = self._in_flight, {}
        for intended, departure in abandoned.values():
            if intended >= 0:
                sent, waits = departure.sent - self._start, departure.waits(self._start + now)
                self._collector.add(Sample(intended, sent, now, NO_ANSWER, UNKNOWN_TIMES, waits))
        self._idle.set()
        return list(abandoned)

    def __repr__(self) -> str:
        return f"<RequestTracker: {self.begun} begun, {len(self._in_flight)} in flight>"
