"""How a request leaves this client: what it waits for, and when it is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from headrace.client.load.record.samples import NEVER_SENT, NO_WAITS, Waits

Cause = Literal["window", "connection", "network"]
"""The fields of `Waits`."""


STARVED_AFTER_SECONDS = 5e-4
"""In less than this, nobody has waited for a processor for long."""


class Departure:
    """Of one request. Moments are those of `time.perf_counter()`."""

    __slots__ = ("_begun", "_cause", "_since", "_used", "_waited", "_waits", "sent")

    def __init__(self, waits: Waits = NO_WAITS) -> None:
        """`waits`: what it has waited for already."""
        self.sent = NEVER_SENT
        """When it was handed to the transport."""
        self._begun, self._used = time.perf_counter(), time.process_time()
        self._waits = self._waited = waits
        self._cause: Cause | None = None
        self._since = 0.0

    def leave(self, now: float) -> None:
        """It is handed to the transport. What it took to get here without using a processor was a wait for one."""
        self.end_wait(now)
        self.sent = now
        took = now - self._begun
        if took > STARVED_AFTER_SECONDS:
            waited = sum(self._waits) - sum(self._waited)
            starved = max(took - waited - (time.process_time() - self._used), 0.0)
            self._waits = self._waits._replace(machine=self._waits.machine + starved)

    @contextmanager
    def waiting_for(self, cause: Cause) -> Iterator[None]:
        """What happens inside is a wait for this."""
        self.begin_wait(cause, time.perf_counter())
        try:
            yield
        finally:
            self.end_wait(time.perf_counter())

    def begin_wait(self, cause: Cause, now: float) -> None:
        self._cause, self._since = cause, now

    def end_wait(self, now: float) -> None:
        """End the current wait, if there is one."""
        self._waits, self._cause = self.waits(now), None

    def waits(self, now: float) -> Waits:
        """All waits up to now, the current one included."""
        waits, cause = self._waits, self._cause
        if cause is None:
            return waits
        return waits._replace(**{cause: getattr(waits, cause) + max(now - self._since, 0.0)})

    def __repr__(self) -> str:
        return f"<Departure: {self._waits}, waits for {self._cause}, sent {self.sent}>"


class Outage:
    """How long requests have waited for a connection, as a context manager of each wait.

    Requests that wait at the same time count once.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._since = self._total = 0.0

    def __enter__(self) -> None:
        if not self._waiting:
            self._since = time.perf_counter()
        self._waiting += 1

    def __exit__(self, *_: object) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._total += time.perf_counter() - self._since

    @property
    def seconds(self) -> float:
        """So far."""
        return self._total + (time.perf_counter() - self._since if self._waiting else 0.0)

    def __repr__(self) -> str:
        return f"<Outage: {self.seconds:.3f} s, {self._waiting} waiting>"
