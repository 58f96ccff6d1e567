"""The metrics of all workers on one page, which their parent shows: it goes on while workers come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection

from headrace.server.metrics_port import build
from headrace.server.telemetry.metrics.asking import Asker
from headrace.server.telemetry.metrics.catalogue import BY_NAME, Kind
from headrace.server.telemetry.metrics.exposition import Exposition
from headrace.server.telemetry.metrics.readings import Buckets, Readings, Value, put
from headrace.server.workers import order as orders
from headrace.server.workers.group import Sibling
from headrace.server.workers.link import ClosedError
from headrace.server.workers.order import WorkerReadings

WORKER_SECONDS = 3.0
"""How long a worker may take to tell its metrics."""
_GREATEST = ("headrace_draining",)
"""Gauges that are no sums."""

_Totals = dict[str, dict[tuple[str, ...], Value]]


class ReadingsOfAll:
    """The sums of what workers have counted. Counters never go back: what one had counted that has ended stays.

    `siblings` are those that live.
    """

    def __init__(self, siblings: Collection[Sibling]) -> None:
        self._siblings = siblings
        self._last: dict[Sibling, WorkerReadings] = {}
        """Of those that live, as they were read last."""
        self._departed: _Totals = {}
        self.replaced = 0

    async def read(self, ready: bool) -> Readings:
        """Ask all of them. One that does not answer counts as it was when it did."""
        siblings = [each for each in self._siblings if each.told]
        answered = dict(zip(siblings, await asyncio.gather(*map(self._ask, siblings)), strict=True))
        totals: _Totals = {name: dict(values) for name, values in self._departed.items()}
        readings: Readings = {}
        for sibling in sorted(self._last, key=lambda each: each.number):
            last = self._last[sibling]
            _add(totals, last.readings, gauges=bool(answered.get(sibling)))
            put(readings, "headrace_worker_resident_bytes", last.resident_bytes, str(sibling.number))
        for name, values in totals.items():
            for labels, value in values.items():
                put(readings, name, value, *labels)
        readings["headrace_ready"] = [((), float(ready))]
        put(readings, "headrace_workers", sum(answered.values()), "answering")
        put(readings, "headrace_workers", len(self._siblings) - sum(answered.values()), "silent")
        put(readings, "headrace_workers_replaced", self.replaced)
        return readings

    def gone(self, sibling: Sibling) -> None:
        """One has ended, and is going to be replaced."""
        self.replaced += 1
        last = self._last.pop(sibling, None)
        if last is not None:
            _add(self._departed, last.readings, gauges=False)

    async def _ask(self, sibling: Sibling) -> bool:
        """Read one. Returns whether it has answered."""
        try:
            found = await sibling.link.asked(orders.READINGS, None, WORKER_SECONDS)
        except (TimeoutError, ClosedError, RuntimeError):
            return False
        if sibling in self._siblings:  # it has not ended meanwhile
            self._last[sibling] = found
        return True


class AnswersOfAll:
    """`endpoint.Answers`, to be made on the event loop. `transport` returns the name of what carries calls."""

    def __init__(self, readings: ReadingsOfAll, ready: Callable[[], bool], transport: Callable[[], str]) -> None:
        self._readings = readings
        self._ready = ready
        self._asker = Asker()
        self._build = dict(build(""))
        self._transport = transport
        self._exposition = Exposition(self._read, self._build)
        self._turn = threading.Lock()
        """Held while text is made, for one scraper at a time."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        with self._turn:
            self._build["transport"] = self._transport()
            return self._exposition.text(accept)

    def is_alive(self) -> bool:
        return self._asker.ask(lambda: True)

    def is_ready(self) -> bool:
        return self.is_alive() and self._ready()

    def _read(self) -> Readings:
        return self._asker.wait_for(self._readings.read(self._ready()))


def _add(totals: _Totals, readings: Readings, *, gauges: bool) -> None:
    """Add what was read of one worker."""
    for name, values in readings.items():
        if BY_NAME[name].kind is Kind.GAUGE and not gauges:
            continue
        total = totals.setdefault(name, {})
        for labels, value in values:
            before = total.get(labels)
            total[labels] = value if before is None else _sum(name, before, value)


def _sum(name: str, one: Value, other: Value) -> Value:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Buckets(one.bounds, counts, one.sum + other.sum)
    assert not isinstance(one, Buckets)
    assert not isinstance(other, Buckets)
    return max(one, other) if name in _GREATEST else one + other
