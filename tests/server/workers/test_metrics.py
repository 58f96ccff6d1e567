"""Metrics of workers that come and go: sums that never go back."""

from __future__ import annotations

from typing import Any

from headrace.server.telemetry.metrics.readings import Buckets, Readings
from headrace.server.workers.metrics import ReadingsOfAll
from headrace.server.workers.order import WorkerReadings

DONE = ("m", "1", "done", "OK")


class Worker:
    """`done` is what it has counted; None while it does not answer."""

    def __init__(self, number: int, done: int | None) -> None:
        self.number, self.done, self.told, self.serves = number, done, True, True
        self.link: Any = self

    async def asked(self, _kind: str, _content: Any, _seconds: float) -> WorkerReadings:
        if self.done is None:
            raise TimeoutError
        readings: Readings = {
            "headrace_requests": [(DONE, self.done)],
            "headrace_requests_queued": [(("m", "1"), 2.0)],
            "headrace_request_duration_seconds": [(("m", "1"), Buckets((1.0,), (self.done, 1), self.done * 0.5))],
            "headrace_draining": [((), float(self.number == 2))],
            "headrace_ready": [((), 1.0)],
        }
        return WorkerReadings(readings, 100 * self.number)


async def test_counters_stay_when_a_worker_ends_and_gauges_go_with_it() -> None:
    first, second = Worker(1, 10), Worker(2, 5)
    workers = [first, second]
    readings = ReadingsOfAll(workers)
    found = await readings.read(True)
    assert found["headrace_requests"] == [(DONE, 15)]
    assert found["headrace_requests_queued"] == [(("m", "1"), 4.0)]
    assert found["headrace_request_duration_seconds"] == [(("m", "1"), Buckets((1.0,), (15, 2), 7.5))]
    assert found["headrace_draining"] == [((), 1.0)]
    assert found["headrace_worker_resident_bytes"] == [(("1",), 100), (("2",), 200)]
    assert found["headrace_workers"] == [(("answering",), 2), (("silent",), 0)]

    second.done = None  # it does not answer: its counters are as they were
    found = await readings.read(True)
    assert found["headrace_requests"] == [(DONE, 15)]
    assert found["headrace_requests_queued"] == [(("m", "1"), 2.0)]
    assert found["headrace_workers"] == [(("answering",), 1), (("silent",), 1)]

    workers.remove(second)
    readings.gone(second)
    workers.append(Worker(2, 1))
    first.done = 11
    found = await readings.read(False)
    assert found["headrace_requests"] == [(DONE, 17)]
    assert found["headrace_workers_replaced"] == [((), 1)]
    assert found["headrace_ready"] == [((), 0.0)]
