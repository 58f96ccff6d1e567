"""Where the time of requests went. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.record.run import ServerMeans
from headrace.client.load.record.samples import Samples
from headrace.client.load.report.delays import waits_before_sending


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


def breakdown(good: Samples, server: ServerMeans | None) -> TimeBreakdown | None:
    """From the server's times of each request, else from its means, else without them."""
    if not good.count:
        return None
    before = {cause: float(seconds.mean()) for cause, seconds in waits_before_sending(good).items()}
    window, connection, machine = before["window"], before["connection"], before["machine"]
    client = before["processor"]
    service = good.ended - good.sent
    # Unary calls do not wait for other tickets and report no such time.
    queue, inference = np.nan_to_num(good.waiting) + good.queued, good.running
    if not np.isfinite(queue + inference).all():
        if server is None or not server.count:
            network = before["network"] + float(service.mean())
            return TimeBreakdown(window, connection, machine, client, network, None, None)
        queue, inference, service = (np.array([each]) for each in (server.queue, server.compute, service.mean()))
    # The two clocks may disagree. Clipped to the time they are part of, the parts add up.
    inference = np.minimum(inference, service)
    queue = np.minimum(queue, service - inference)
    network = before["network"] + float((service - queue - inference).mean())
    return TimeBreakdown(window, connection, machine, client, network, float(queue.mean()), float(inference.mean()))


def slowest(good: Samples) -> Samples:
    """The slowest hundredth of the requests."""
    count = -(-good.count // 100)
    return good.select(np.argsort(good.ended - good.intended, kind="stable")[good.count - count :])
