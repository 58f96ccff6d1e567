"""Where the time of requests went. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from headrace.client.load.record.run import ServerMeans
from headrace.client.load.record.samples import Floats, Samples
from headrace.client.load.report.chunked import Chunked, latencies, split_at, successes
from headrace.client.load.report.delays import CAUSES, waits_before_sending

Times = TypeVar("Times", Floats, np.float64)


@dataclass(frozen=True, slots=True)
class TimeBreakdown:
    """The mean seconds of a request, part by part; they add up to its mean latency.

    If the server reports no times, `queue` and `inference` are None and `network` includes the server.
    """

    window: float
    """Waiting for room in the window, before it was sent."""
    connection: float
    """Waiting for a connection, before it was sent."""
    machine: float
    """Waiting for a processor of the client's machine that others used, before it was sent."""
    client: float
    """Waiting for this client to do its own work, before it was sent."""
    network: float
    queue: float | None
    inference: float | None

    @property
    def total(self) -> float:
        return self.waiting + self.client + self.network + (self.queue or 0.0) + (self.inference or 0.0)

    @property
    def waiting(self) -> float:
        """Waiting for room, a connection or the machine, before it was sent."""
        return self.window + self.connection + self.machine


def breakdown(good: Iterable[Samples], server: ServerMeans | None) -> TimeBreakdown | None:
    """Of requests that succeeded: from the server's times of each, else from its means, else without them."""
    count, complete = 0, True
    before = dict.fromkeys(CAUSES, 0.0)
    # Of all requests together: the service time, and its parts.
    service = network = queue = inference = 0.0
    for chunk in good:
        count += chunk.count
        for cause, seconds in waits_before_sending(chunk).items():
            before[cause] += float(seconds.sum())
        served = chunk.ended - chunk.sent
        service += float(served.sum())
        # Unary calls do not wait for other tickets and report no such time.
        queued = np.nan_to_num(chunk.waiting) + chunk.queued
        complete = complete and bool(np.isfinite(queued + chunk.running).all())
        if complete:
            parts = _split(served, queued, chunk.running)
            network, queue, inference = (
                total + float(part.sum()) for total, part in zip((network, queue, inference), parts, strict=True)
            )
    if not count:
        return None
    window, connection, machine, client, sending = (
        before[cause] / count for cause in ("window", "connection", "machine", "processor", "network")
    )
    if complete:
        parts_of_one = sending + network / count, queue / count, inference / count
        return TimeBreakdown(window, connection, machine, client, *parts_of_one)
    if server is None or not server.count:
        return TimeBreakdown(window, connection, machine, client, sending + service / count, None, None)
    between, queue, inference = (
        float(part) for part in _split(*map(np.float64, (service / count, server.queue, server.compute)))
    )
    return TimeBreakdown(window, connection, machine, client, sending + between, queue, inference)


def _split(service: Times, queue: Times, inference: Times) -> tuple[Times, Times, Times]:
    """The service time as the times in the network, in the queue and of inference.

    The two clocks may disagree. Clipped to the time they are part of, the parts add up.
    """
    inference = np.minimum(inference, service)
    queue = np.minimum(queue, service - inference)
    return service - queue - inference, queue, inference


def slowest(samples: Samples, ok: int) -> Chunked[Samples]:
    """The slowest hundredth of the requests that succeeded, of which there are `ok`."""
    _, last = split_at(successes(samples), latencies(samples), ok - -(-ok // 100))
    return last.map(lambda part: part[0].select(part[1]))
