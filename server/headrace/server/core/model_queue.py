"""Which tickets of a model run next: priority, then round-robin over streams, then first come, first served.

Tickets whose turns follow each other may share a run, a *batch*, where the model gains by it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from headrace.server.core.crowd import Crowd
from headrace.server.core.specs import ModelSpec
from headrace.server.core.statistics import Statistics
from headrace.server.core.transitions import SLOT_TRANSITIONS, SlotState, illegal

if TYPE_CHECKING:
    from headrace.server.core.streams import Stream
    from headrace.server.core.tickets import Ticket

MAX_PRIORITY = 9


class ModelQueue:
    """A version of a model: its slots, and the tickets that wait for one."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.statistics = Statistics()
        self.holders = 1
        """Tickets that need it: Infers until they give back their inputs. And one more while new ones may get it."""
        self.slots = [SlotState.FREE] * spec.slots
        self._free = list(range(spec.slots))
        self._levels: dict[int, OrderedDict[Stream, OrderedDict[Ticket, None]]] = {}
        """By priority, only levels that have tickets; in each the streams in the order of their next turn."""
        self._only: Ticket | None = None
        """The ticket that is queued, while there is one and no order to keep: in a chain, or with a window of one."""
        self.queued = 0
        self.restorations = 0
        """How often a slot was restored after a run that had failed."""
        self.crowd = Crowd()

    def occupy(self) -> int:
        """A free slot, which is running from now on. The one that was used last is taken first: its memory is warm."""
        slot = self._free.pop()
        self._move(slot, SlotState.RUNNING)
        return slot

    def stop(self, slot: int) -> None:
        self._move(slot, SlotState.STOPPING)

    def free(self, slot: int) -> None:
        self._move(slot, SlotState.FREE)
        self._free.append(slot)

    def withdraw(self, slot: int) -> None:
        """Nobody gets a slot in which nothing runs any more before it was restored."""
        if self.slots[slot] is SlotState.FREE:
            self._free.remove(slot)
        self._move(slot, SlotState.RESTORING)

    def restore(self, slot: int) -> None:
        """A slot can be used again."""
        assert self.slots[slot] is SlotState.RESTORING, f"slot {slot} of {self!r} was not to be restored"
        self.restorations += 1
        self.free(slot)

    def _move(self, slot: int, state: SlotState) -> None:
        if state not in SLOT_TRANSITIONS[self.slots[slot]]:
            raise illegal(self.slots[slot], state)
        self.slots[slot] = state

    def push(self, ticket: Ticket) -> None:
        """Queue a ticket at its priority."""
        if not self.queued:
            self._only = ticket
        else:
            self._line_up()
            self._enter(ticket)
        self.queued += 1

    def _line_up(self) -> None:
        if self._only is not None:
            self._enter(self._only)
            self._only = None

    def _enter(self, ticket: Ticket) -> None:
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = OrderedDict()
        tickets = level.get(ticket.stream)
        if tickets is None:
            tickets = level[ticket.stream] = OrderedDict()
        tickets[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        """Take a queued ticket out, at the priority that it was pushed with."""
        self._line_up()
        level = self._levels[ticket.priority]
        tickets = level[ticket.stream]
        del tickets[ticket]
        self.queued -= 1
        if not tickets:
            del level[ticket.stream]
            if not level:
                del self._levels[ticket.priority]

    def put_back(self, tickets: Sequence[Ticket]) -> None:
        """Queue tickets again that were picked together, each before all others of its stream."""
        self._line_up()
        for ticket in tickets:
            self._enter(ticket)
        self.queued += len(tickets)
        for ticket in reversed(tickets):
            self._levels[ticket.priority][ticket.stream].move_to_end(ticket, last=False)

    def pick(self) -> Sequence[Ticket]:
        """Take out the ticket whose turn it is, and those that may run with it; none when none may start.

        None starts without a free slot. With it run those whose turn comes next at its priority, one after the other,
        while they may share a run and their rows fit: what runs first does so whether there are batches or not. Slots
        that are free share what is queued, unless the runs are direct, which are done one after another anyhow.
        """
        if not self._free:
            return ()
        only = self._only
        if only is not None:
            if only not in _startable(only.stream, (only,)):
                return ()
            self._only, self.queued = None, 0
            return (only,)
        most = self.spec.batch
        if most > 1 and not self.spec.direct:
            most = min(most, -(-self.queued // len(self._free)))
        for priority in sorted(self._levels, reverse=True) if len(self._levels) > 1 else tuple(self._levels):
            level = self._levels[priority]
            picked = _together(_turns(level), most)
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

    def pick_ahead(self) -> Ticket | None:
        """Take out the ticket that is next whatever the runs come to that are under way; None when that may change it.

        What ends now makes others ready, who come after those of the same stream that are queued already.
        """
        ticket = self._only
        if ticket is None:
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
            f"<Model {self.spec.name}/{self.spec.version} {running} running, {stopping} stopping, "
            f"{restoring} restoring, {len(self._free)} free, {self.queued} queued>"
        )


def _together(turns: Iterable[Ticket], most: int) -> Sequence[Ticket]:
    """The tickets whose turns come first, as many as may share a run of `most` rows."""
    picked: list[Ticket] = []
    rows = 0
    for ticket in turns:
        rows += ticket.rows
        if picked and (rows > most or not ticket.rows):
            break
        picked.append(ticket)
        if rows >= most or not ticket.rows:
            break
    return picked


def _turns(level: OrderedDict[Stream, OrderedDict[Ticket, None]]) -> Iterable[Ticket]:
    """The tickets of a level in the order of their turns: a stream after the other, in each the oldest."""
    if len(level) == 1:
        ((stream, tickets),) = level.items()
        return _startable(stream, tickets)
    return _rotation(level)


def _rotation(level: OrderedDict[Stream, OrderedDict[Ticket, None]]) -> Iterator[Ticket]:
    waiting = deque(iter(_startable(stream, tickets)) for stream, tickets in level.items())
    while waiting:
        queue = waiting.popleft()
        for ticket in queue:
            yield ticket
            if waiting:
                waiting.append(queue)
                break


def _startable(stream: Stream, tickets: Collection[Ticket]) -> Collection[Ticket]:
    """Those that may start: of a choked stream only its oldest Infer in flight."""
    if not stream.backpressured:
        return tickets
    oldest = next(iter(stream.infers))
    return (oldest,) if oldest in tickets else ()
