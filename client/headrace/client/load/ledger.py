"""What has become of the requests of a phase in one process."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.client.load.calling import Answer
from headrace.client.load.samples import NO_ANSWER, Collector, Sample, Times

Task = asyncio.Task[Any]


def current_task() -> Task:
    task = asyncio.current_task()
    assert task is not None, "outside of a task"
    return task


class Ledger:
    """Makes a sample of every request with an intended time from 0 on, and only counts the failures of those before.

    Moments are in seconds since `begin`. A task has one request in flight at most.
    """

    def __init__(self, begin: float, collector: Collector) -> None:
        self.closed = False
        """Nothing more is to be sent."""
        self.sent = 0
        self.last_answer = 0.0
        self.warmup_failures = 0
        self.no_room = 0
        """Requests that waited for others to end."""
        self.messages: dict[int, str] = {}
        self._begin = begin
        self._collector = collector
        self._in_flight: dict[Task, tuple[float, float]] = {}
        self._settled = asyncio.Event()
        self._settled.set()

    def send(self, task: Task, intended: float, moment: float) -> None:
        self._in_flight[task] = intended, moment
        self._settled.clear()
        if intended >= 0:
            self.sent += 1

    def answer(self, task: Task, answer: Answer) -> None:
        """What comes after `give_up` counts no more."""
        entry = self._in_flight.pop(task, None)
        if entry is None:
            return
        intended, _ = entry
        sent, ended, code, message, times = answer
        if intended >= 0:
            ended -= self._begin
            self.last_answer = max(self.last_answer, ended)
            self._collector.add(Sample(intended, sent - self._begin, ended, code, times))
            if code:
                self.messages.setdefault(code, message)
        elif code:
            self.warmup_failures += 1
        if not self._in_flight:
            self._settled.set()

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        await self._settled.wait()

    def give_up(self, moment: float) -> list[Task]:
        """Nothing more is waited for. The tasks that were waiting, to be cancelled."""
        abandoned, self._in_flight = self._in_flight, {}
        for intended, sent in abandoned.values():
            if intended >= 0:
                self._collector.add(Sample(intended, sent, moment, NO_ANSWER, Times()))
        self._settled.set()
        return list(abandoned)

    def __repr__(self) -> str:
        return f"<Ledger: {self.sent} sent, {len(self._in_flight)} in flight>"
