"""Which tickets share a run, and whether it pays to let them wait for each other.

In a frame, tickets that can share a run arrive together. In protocols without frames each would run alone, however many
arrive; and where runs happen in place, a run costs several times what one more row in a shared run does. So tickets
*coalesce*: they wait until no more have arrived for a moment, since every shared run makes all later tickets wait less.
How many will arrive is unknown, so this is tried now and then, and while only a few arrive none of them waits.

The time alone does not tell that no more tickets arrive: they may have reached a busy server long ago. The event loop
does: nothing has arrived *and* there was nothing else to do.

    add/multiply, requests in flight     4      8      16     32     64
    ModelInfer, ratio of throughput      1.05   1.35   1.57   1.77   1.79
    ModelStreamInfer, the same           0.97   1.09   1.15   1.11   1.35
"""

from __future__ import annotations

import math
from typing import Generic, Protocol, TypeVar

from headrace.server.core.specs import ModelSpec

IDLE_SECONDS = 75e-6
"""An event loop idle for this long means that no more tickets arrive. A client takes half of it to send one."""
MAX_WAIT_SECONDS = 2e-3
"""The longest that a ticket waits for others."""
WORTHWHILE, WORTHWHILE_OF_ONE_STREAM = 6, 12
"""Tickets in a run from which on waiting pays. Those of one stream are read one by one while others run and are
answered, so it takes more of them."""
MIN_PAUSE, MAX_PAUSE = 4, 64
"""Runs that start without waiting between two trials; their number doubles with each trial that does not pay."""
SMALL_RUNS_ALLOWED = 4
"""Small runs in a row that do not end the waiting: clients answered together send at different times afterwards."""
URGENT_SECONDS = 10 * MAX_WAIT_SECONDS
"""A ticket whose deadline is closer than this waits for no other."""


class Arrivals:
    """The tickets that are queued for one model, and what waiting for more of them has brought so far."""

    __slots__ = ("_all_can_wait", "_complete", "_pause", "_runs_until_trial", "_small_runs", "_stream", "first")

    def __init__(self) -> None:
        self.first = 0.0
        """When the first of them arrived."""
        self._all_can_wait = False
        self._complete = False
        """No more will arrive."""
        self._stream = 0
        """The id of the stream that all of them belong to; 0 when they belong to several."""
        self._small_runs = SMALL_RUNS_ALLOWED
        """Small runs since the last large one."""
        self._runs_until_trial = self._pause = MIN_PAUSE
        """Runs that start without waiting: until the next trial, and after it if it does not pay."""

    def add(self, queued: int, stream: int, now: float, *, can_wait: bool) -> None:
        """One more ticket arrives while `queued` are there. `stream` is an id, so that no stream is kept alive here."""
        if not queued:
            self.first, self._all_can_wait, self._complete = now, can_wait, False
            self._stream = stream
        else:
            self._all_can_wait = self._all_can_wait and can_wait
            if stream != self._stream:
                self._stream = 0

    def complete(self) -> None:
        """Expect no more tickets to join those that are queued."""
        self._complete = True

    @property
    def due(self) -> float:
        """When they start at the latest."""
        if self._runs_until_trial or self._complete or not self._all_can_wait:
            return self.first
        return self.first + MAX_WAIT_SECONDS

    def started(self, count: int) -> None:
        """A run of `count` tickets starts: learn whether waiting pays."""
        if not self._all_can_wait:
            return
        if self._runs_until_trial:
            self._runs_until_trial -= 1
        elif count >= (WORTHWHILE_OF_ONE_STREAM if self._stream else WORTHWHILE):
            self._pause, self._small_runs = MIN_PAUSE, 0
        elif self._small_runs < SMALL_RUNS_ALLOWED:
            self._small_runs += 1
        else:
            self._runs_until_trial = self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)


class Batched(Protocol):
    """The queue of a model, as far as batching is concerned."""

    spec: ModelSpec
    queued: int
    arrivals: Arrivals


Q = TypeVar("Q", bound=Batched)


class Batching(Generic[Q]):
    """Decides which queues hold their tickets back, although a slot is free.

    With a delay, that of the model or else `delay` (seconds), every batch that is not full waits that long. Otherwise,
    with `coalesce`, tickets wait as long as their `Arrivals` say.
    """

    def __init__(self, delay: float, *, coalesce: bool) -> None:
        self._delay = delay
        self._coalesce = coalesce
        self.held: dict[Q, None] = {}
        """Queues whose tickets wait."""

    def delay(self, queue: Q) -> float:
        """The seconds that a batch of this model waits to fill, if its operator has set any."""
        delay = queue.spec.batch_delay
        return self._delay if delay is None else delay

    def arrive(self, queue: Q, stream: int, now: float, *, can_wait: bool) -> None:
        """A ticket is about to be queued."""
        if self._coalesce or self.delay(queue):
            queue.arrivals.add(queue.queued, stream, now, can_wait=can_wait)

    def still_holds(self, queue: Q, now: float) -> bool:
        """Whether the tickets of a held queue go on waiting, now that one more has arrived."""
        return queue.queued < queue.spec.batch and self._due(queue) > now

    def hold(self, queue: Q, now: float) -> bool:
        """Whether the tickets of a queue wait for more; if so they are held until `expire`, `idle` or a full batch."""
        self.held.pop(queue, None)
        if not (self._coalesce or self.delay(queue)) or not 0 < queue.queued < queue.spec.batch:
            return False
        if self._due(queue) <= now:
            return False
        self.held[queue] = None
        return True

    def started(self, queue: Q, count: int) -> None:
        """A run of `count` tickets starts."""
        if self._coalesces(queue):
            queue.arrivals.started(count)

    @property
    def waits_for_idle(self) -> bool:
        """Whether `idle` would release tickets."""
        return self._coalesce and any(map(self._coalesces, self.held))

    def idle(self) -> list[Q]:
        """The event loop has been idle for IDLE_SECONDS. Returns the queues whose tickets wait no longer."""
        queues = [*filter(self._coalesces, self.held)]
        for queue in queues:
            queue.arrivals.complete()
        return queues

    def expire(self, now: float) -> list[Q]:
        """The queues whose tickets have waited long enough."""
        return [queue for queue in self.held if self._due(queue) <= now]

    @property
    def first_due(self) -> float:
        """When `expire` has something to return; infinity when no ticket waits."""
        first = math.inf
        for queue in self.held:
            if queue.queued:
                first = min(first, self._due(queue))
        return first

    def _coalesces(self, queue: Q) -> bool:
        return self._coalesce and not self.delay(queue)

    def _due(self, queue: Q) -> float:
        delay = self.delay(queue)
        return queue.arrivals.first + delay if delay else queue.arrivals.due
