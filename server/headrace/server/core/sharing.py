"""Whose run the processor gets next, of all models that have one: the highest priority, and there by weight.

Each model is compiled as if it were alone. If all of them started whatever their slots allow, ten busy models would
compute ten times as many runs at once as the processor can, and a short run would share it with all of them. So only
little more computes at once than the processor can, so that it is not idle while one run hands over to the next. Runs
beyond that may be started only where they wait for others of the same model. One model alone is not held up by this.

The next run is that of the model with the highest priority, and there of the one that has *had* least: seconds of the
processor, divided by its weight. When it is chosen it pays in advance for what its runs in progress will probably take.
A model that was idle goes on where the others are, so that it neither owes anything nor catches up on anything
(start-time fair queueing).

How long a run computes cannot be measured, since runs share the processor with each other. It follows from how many
threads compute, each of which has an equal part of it.

A run that is short beside those in progress need not wait for their end: if its model has no other in progress, and has
not had more than its share, it starts in the *reserve*, which is as much again. There it takes turns with the others on
the processor, and ends sooner than it would otherwise start.

Waiting raises the priority of a model as it does that of a ticket (see `turns`). Heaps find the next model, and those
that have nothing to start are in none.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

from headrace.server.core.specs import ModelSpec
from headrace.server.core.turns import AGING_SECONDS
from headrace.wire.limits import MAX_PRIORITY

AHEAD = 2
"""Runs of a model in progress for each of its streams, while others wait: one computes, and one follows it."""
OVERLAP = 1 / 4
"""Threads that may compute beyond those of the processor, but those of one run in any case. They have it to themselves
while a run that has ended hands over to the next."""
SHORT = 1 / 2
"""A run is short if it takes at most this part of what those in progress take on average. A longer one ends sooner if
it waits for the next end, after a quarter of their time on average, than if one more run computes meanwhile."""
SMOOTHING = 1 / 8
"""How much a run that has ended changes what the next ones are expected to take."""
LONG_SECONDS = 1e-3
"""Runs of a model that runs directly share the processor if they take longer: such runs are handed over."""


class Share:
    """What one model has of the processor. Only `Processor` changes it, apart from `is_counted`."""

    __slots__ = (
        "entry",
        "had",
        "is_counted",
        "is_direct",
        "key",
        "priority",
        "run_seconds",
        "running",
        "served",
        "streams",
        "threads",
        "unpaid",
        "weight",
    )

    def __init__(self, spec: ModelSpec) -> None:
        self.priority, self.weight = spec.priority, spec.weight
        self.streams, self.threads = spec.streams, spec.threads
        self.is_direct = spec.direct
        self.is_counted = spec.threads > 0 and not spec.direct
        """Whether runs wait for the processor; not those that happen in place, or on another device."""
        self.running = 0
        """Runs in progress that are counted."""
        self.had = 0.0
        """Seconds of the processor that runs have taken, divided by the weight, or what others had when it was idle."""
        self.unpaid = 0.0
        """Seconds that are not yet those of a run that has ended."""
        self.run_seconds = 0.0
        """What a run probably takes of the processor; 0 before the first."""
        self.served = 0.0
        """`Processor._served` when `had` was last brought up to date."""
        self.entry = 0
        """The number of its entry among those that wait; 0 when it does not."""
        self.key = 0.0
        """What it has had in that entry, with what its runs in progress will probably take."""

    def __repr__(self) -> str:
        return f"<Share {self.running} running, {self.had:.3f} s, {self.run_seconds * 1e3:.3f} ms a run>"


class Sharing(Protocol):
    """The queue of a model, as far as the processor is concerned."""

    share: Share
    queued: int

    @property
    def has_free_slot(self) -> bool: ...


Q = TypeVar("Q", bound=Sharing)
_Order = list[tuple[float, int, Q]]
"""A heap of models by what they have had; the number says whether an entry still holds."""


class _Level(Generic[Q]):
    """The models at one priority that wait for the processor."""

    def __init__(self, turn: int, now: float) -> None:
        self.turn = turn
        """The smaller it is, the longer ago the last turn was."""
        self.since = now
        """When it had its last turn, or began to wait."""
        self.waiting = 0
        self.order: _Order[Q] = []
        self.urgent: _Order[Q] = []
        """Those that may use the reserve."""


class Processor(Generic[Q]):
    """`threads`: how many can compute at once."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._levels: dict[int, _Level[Q]] = {}
        """By priority. Those in which nobody waits are left out."""
        self.waiting = 0
        """How many models wait."""
        self._number = 0
        """The last number that was given."""
        self._reached = [0.0] * (MAX_PRIORITY + 1)
        """What the model that was last chosen had had, by priority: models of others have had more or less."""
        self._computing = self._committed = self._running = 0
        self._expected = 0.0
        """The sum of what the runs in progress are expected to take."""
        self._priorities = [0] * (MAX_PRIORITY + 1)
        """How many runs in progress are of models with each priority."""
        self._served = 0.0
        """Seconds that a thread which always computes would have had of the processor until `_now`."""
        self._now = 0.0

    def wait(self, queue: Q, now: float) -> None:
        """A model may have a ticket and a free slot for it: it waits to be chosen."""
        share = queue.share
        if not (queue.queued and queue.has_free_slot):
            self._leave(share)
            return
        if not share.running and not share.entry:
            share.had = max(share.had, self._reached[share.priority])
        key = share.had + share.running * share.run_seconds / share.weight
        if share.entry and share.key == key:
            return
        self._number = number = self._number + 1
        level = self._levels.get(share.priority)
        if level is None:
            level = self._levels[share.priority] = _Level(number, now)
        if not share.entry:
            level.waiting += 1
            self.waiting += 1
        share.entry, share.key = number, key
        heappush(level.order, (key, number, queue))
        _bound(level.order, level.waiting)
        if self._is_urgent(share):
            heappush(level.urgent, (key, number, queue))
            _bound(level.urgent, level.waiting)

    def choose(self, now: float) -> Q | None:
        """The model that starts a run next, which waits no longer; None while the processor has enough to do."""
        while self._levels:
            level = self._highest(now)
            queue = _first(level.order)
            assert queue is not None
            share = queue.share
            if self._fits(share):
                self._reached[share.priority] = max(self._reached[share.priority], share.key)
                self._number += 1
                level.turn, level.since = self._number, now
            elif any(self._priorities[share.priority + 1 :]) or not self._overlaps(share, 1):
                queue = self._in_reserve(level, queue)
                if queue is None:
                    return None
            self._leave(queue.share)
            if queue.queued and queue.has_free_slot:
                return queue
        return None

    def is_alone(self, share: Share) -> bool:
        """Whether no other model waits, or has runs in progress: then it may use all of its slots."""
        return not self.waiting and self._running == share.running

    def started(self, share: Share, now: float, *, alone: bool = False) -> float:
        """A run of a model starts, maybe while it `is_alone`. Returns what it is expected to take, for `ended`."""
        if alone:
            reached = share.had + share.running * share.run_seconds / share.weight
            if reached > self._reached[share.priority]:
                self._reached[share.priority] = reached
            elif not share.running:
                share.had = self._reached[share.priority]
        self._settle(share, now)
        if share.running < share.streams:
            self._computing += share.threads
        if share.running < AHEAD * share.streams:
            self._committed += share.threads
        share.running += 1
        self._running += 1
        self._priorities[share.priority] += 1
        self._expected += share.run_seconds
        return share.run_seconds

    def ended(self, share: Share, expected: float, now: float) -> None:
        """A run has ended, of which `started` has returned what was `expected`."""
        self._settle(share, now)
        # Exact for runs that began together, and on average for those that follow each other.
        taken = share.unpaid / share.running
        share.unpaid -= taken
        share.running -= 1
        if share.running < share.streams:
            self._computing -= share.threads
        if share.running < AHEAD * share.streams:
            self._committed -= share.threads
        self._running -= 1
        self._priorities[share.priority] -= 1
        self._expected = self._expected - expected if self._running else 0.0
        if share.run_seconds:
            taken = share.run_seconds + (taken - share.run_seconds) * SMOOTHING
        share.run_seconds = taken
        if share.is_direct and taken < LONG_SECONDS / 4:
            share.is_counted = False

    def _settle(self, share: Share, now: float) -> None:
        """Bring up to date what a model has had: each thread that computes has an equal part of the processor."""
        computing = self._computing
        if computing:
            passed = now - self._now
            if computing > self._threads:
                passed *= self._threads / computing
            self._served += passed
        self._now = now
        if share.running:
            streams = share.running if share.running < share.streams else share.streams
            seconds = (self._served - share.served) * streams * share.threads
            share.had += seconds / share.weight
            share.unpaid += seconds
        share.served = self._served

    def _fits(self, share: Share) -> bool:
        """Whether a run of a model keeps the processor busy, or waits for others of the model."""
        if self._computing < self._threads:
            return True
        if share.running < share.streams:
            return False
        more = share.threads if share.running < AHEAD * share.streams else 0
        return self._committed + more <= AHEAD * self._threads

    def _overlaps(self, share: Share, times: int) -> bool:
        """Whether a run of a model may compute beside as many as the processor can, if that many more may.

        What models have had grows by a run at a time, so a model may be ahead of the others by one.
        """
        room = self._threads + times * max(share.threads, int(OVERLAP * self._threads))
        ahead = (share.key - self._reached[share.priority]) * share.weight
        return self._computing + share.threads <= room and ahead <= self._expected / self._running

    def _is_urgent(self, share: Share) -> bool:
        """Whether a run of a model is the only one, and short beside those in progress."""
        return not share.running and share.run_seconds * self._running <= SHORT * self._expected

    def _in_reserve(self, level: _Level[Q], first: Q) -> Q | None:
        """The model that may start a run in the reserve, if any. `first` is the one whose turn it is."""
        found: Q | None = first
        if not self._is_urgent(first.share):
            while (found := _first(level.urgent)) is not None and not self._is_urgent(found.share):
                heappop(level.urgent)
        return found if found is not None and self._overlaps(found.share, 2) else None

    def _highest(self, now: float) -> _Level[Q]:
        """The level whose turn it is."""
        levels = self._levels
        if len(levels) == 1:
            (level,) = levels.values()
            return level
        top = max(levels)

        def rank(priority: int) -> tuple[float, int]:
            level = levels[priority]
            return min(top, priority + (now - level.since) // AGING_SECONDS), -level.turn

        return levels[max(levels, key=rank)]

    def _leave(self, share: Share) -> None:
        """A model does not wait any more."""
        if share.entry:
            share.entry = 0
            level = self._levels[share.priority]
            level.waiting -= 1
            self.waiting -= 1
            if not level.waiting:
                del self._levels[share.priority]

    def __repr__(self) -> str:
        return f"<Processor {self._committed} of {AHEAD * self._threads} threads committed, {self.waiting} models wait>"


def _first(order: _Order[Q]) -> Q | None:
    """The model of the first entry that holds."""
    while order:
        _, number, queue = order[0]
        if queue.share.entry == number:
            return queue
        heappop(order)
    return None


def _bound(order: list[tuple[float, int, Any]], waiting: int) -> None:
    """Drop the entries that hold no longer when they are most of a heap."""
    if len(order) > 2 * waiting + 64:
        order[:] = [entry for entry in order if entry[2].share.entry == entry[1]]
        heapify(order)
