"""A version of a model: its slots, and the tickets that are queued for them.

The order of turns is priority, then round-robin over streams, then first come, first served. Tickets whose turns follow
each other may share a run where the model gains by it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, cast

from headrace.server.core.batching import Arrivals, Shareable, share_run
from headrace.server.core.specs import ModelSpec
from headrace.server.core.statistics import Statistics
from headrace.server.core.transitions import SLOT_TRANSITIONS, SlotState, illegal


class QueuedStream(Protocol):
    """A stream, as far as turns are concerned."""

    @property
    def backpressured(self) -> bool: ...
    @property
    def oldest_infer(self) -> object: ...


class Queued(Shareable, Protocol):
    """A ticket, as far as turns are concerned."""

    priority: int

    @property
    def stream(self) -> QueuedStream: ...


T = TypeVar("T", bound=Queued)


class ModelQueue(Generic[T]):
    """Tickets of type `T` that wait for the slots of one version of a model."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.statistics = Statistics()
        self.arrivals = Arrivals()
        self.holders = 1
        """Infers that need the model, until they return their inputs; and one more while new tickets may use it."""
        self.slots = [SlotState.FREE] * spec.slots
        self._free = list(range(spec.slots))
        self._levels: dict[int, OrderedDict[QueuedStream, OrderedDict[T, None]]] = {}
        """By priority, only levels that have tickets; in each the streams in the order of their next turn."""
        self.queued = 0
        self.restorations = 0
        """How often a slot was restored after a failed run."""

    # ------------------------------------------------------------------------------------------------------- slots

    def occupy(self) -> int:
        """Take a free slot: the one used last, whose memory is warm."""
        slot = self._free.pop()
        self._move(slot, SlotState.RUNNING)
        return slot

    def stop(self, slot: int) -> None:
        self._move(slot, SlotState.STOPPING)

    def free(self, slot: int) -> None:
        self._move(slot, SlotState.FREE)
        self._free.append(slot)

    def withdraw(self, slot: int) -> None:
        """Keep a slot in which nothing runs from being used until it is restored."""
        if self.slots[slot] is SlotState.FREE:
            self._free.remove(slot)
        self._move(slot, SlotState.RESTORING)

    def restore(self, slot: int) -> None:
        assert self.slots[slot] is SlotState.RESTORING, f"slot {slot} of {self!r} is not being restored"
        self.restorations += 1
        self.free(slot)

    def _move(self, slot: int, state: SlotState) -> None:
        if state not in SLOT_TRANSITIONS[self.slots[slot]]:
            raise illegal(self.slots[slot], state)
        self.slots[slot] = state

    # ------------------------------------------------------------------------------------------------------- turns

    def push(self, ticket: T) -> None:
        """Queue a ticket at its priority."""
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = OrderedDict()
        tickets = level.get(ticket.stream)
        if tickets is None:
            tickets = level[ticket.stream] = OrderedDict()
        tickets[ticket] = None
        self.queued += 1

    def remove(self, ticket: T) -> None:
        """Take out a queued ticket, at the priority it was pushed with."""
        level = self._levels[ticket.priority]
        tickets = level[ticket.stream]
        del tickets[ticket]
        self.queued -= 1
        if not tickets:
            del level[ticket.stream]
            if not level:
                del self._levels[ticket.priority]

    def put_back(self, tickets: Sequence[T]) -> None:
        """Queue tickets again that were picked together, each before all others of its stream."""
        for ticket in tickets:
            self.push(ticket)
        for ticket in reversed(tickets):
            self._levels[ticket.priority][ticket.stream].move_to_end(ticket, last=False)

    def pick(self) -> Sequence[T]:
        """Take out the tickets of the next run; none when no ticket may start.

        Without a free slot none may. The ticket whose turn it is takes along those whose turns come next at its
        priority, one after the other, while they may share a run and their rows fit: batches never change the order.
        Free slots share the queue among themselves, except for direct models, whose runs happen one after another
        anyway.
        """
        if not self._free:
            return ()
        max_rows = self.spec.batch
        if max_rows > 1 and not self.spec.direct:
            max_rows = min(max_rows, -(-self.queued // len(self._free)))
        for priority in sorted(self._levels, reverse=True) if len(self._levels) > 1 else tuple(self._levels):
            level = self._levels[priority]
            if len(level) == 1:
                ((stream, tickets),) = level.items()
                picked = share_run(_startable(stream, tickets), max_rows)
            else:
                picked = share_run(_round_robin(level), max_rows)
            if not picked:
                continue
            for ticket in picked:
                stream = ticket.stream
                tickets = level[stream]
                del tickets[ticket]
                if not tickets:
                    del level[stream]
                elif len(level) > 1:
                    level.move_to_end(stream)
            if not level:
                del self._levels[priority]
            self.queued -= len(picked)
            return picked
        return ()

    def pick_ahead(self) -> T | None:
        """Take out the ticket that is next whatever the current runs come to; None when their ends may change that.

        Their ends make other tickets ready, but those come after the queued ones of the same stream.
        """
        if len(self._levels) != 1:
            return None
        (level,) = self._levels.values()
        if len(level) != 1:
            return None
        (tickets,) = level.values()
        ticket = next(iter(tickets))
        if ticket.priority or ticket.stream.backpressured:
            return None
        self.remove(ticket)
        return ticket

    def __repr__(self) -> str:
        running = self.slots.count(SlotState.RUNNING)
        stopping = self.slots.count(SlotState.STOPPING)
        restoring = self.slots.count(SlotState.RESTORING)
        return (
            f"<ModelQueue {self.spec.name}/{self.spec.version} {running} running, {stopping} stopping, "
            f"{restoring} restoring, {len(self._free)} free, {self.queued} queued>"
        )


def _round_robin(level: OrderedDict[QueuedStream, OrderedDict[T, None]]) -> Iterator[T]:
    """The tickets of a level in the order of their turns: one stream after the other, the oldest ticket of each."""
    waiting = deque(iter(_startable(stream, tickets)) for stream, tickets in level.items())
    while waiting:
        queue = waiting.popleft()
        for ticket in queue:
            yield ticket
            if waiting:
                waiting.append(queue)
                break


def _startable(stream: QueuedStream, tickets: Collection[T]) -> Collection[T]:
    """The tickets that may start: of a backpressured stream only its oldest Infer in flight."""
    if not stream.backpressured:
        return tickets
    oldest = stream.oldest_infer
    return (cast(T, oldest),) if oldest in tickets else ()
