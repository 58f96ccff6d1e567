"""Which ticket of a model runs next: priority, then round-robin over streams, then first come, first served."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from headrace.server.core.specs import ModelSpec
from headrace.server.core.tables import SLOT_MOVES, SlotState, moved

if TYPE_CHECKING:
    from headrace.server.core.streams import Stream
    from headrace.server.core.tickets import Ticket

MAX_PRIORITY = 9


class Model:
    """A version of a model: its slots, and the tickets that wait for one."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.slots = [SlotState.FREE] * spec.slots
        self._free = list(range(spec.slots))
        self._levels: dict[int, OrderedDict[Stream, OrderedDict[Ticket, None]]] = {}
        """By priority, only levels that have tickets; in each the streams in the order of their next turn."""
        self.queued = 0

    @property
    def has_slot(self) -> bool:
        return bool(self._free)

    def occupy(self) -> int:
        """A free slot, which is running from now on. The one that was used last is taken first: its memory is warm."""
        slot = self._free.pop()
        self.slots[slot] = moved(SLOT_MOVES, self.slots[slot], SlotState.RUNNING)
        return slot

    def stop(self, slot: int) -> None:
        self.slots[slot] = moved(SLOT_MOVES, self.slots[slot], SlotState.STOPPING)

    def free(self, slot: int) -> None:
        self.slots[slot] = moved(SLOT_MOVES, self.slots[slot], SlotState.FREE)
        self._free.append(slot)

    def push(self, ticket: Ticket) -> None:
        """Queue a ticket at its priority."""
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = OrderedDict()
        tickets = level.get(ticket.stream)
        if tickets is None:
            tickets = level[ticket.stream] = OrderedDict()
        tickets[ticket] = None
        self.queued += 1

    def remove(self, ticket: Ticket) -> None:
        """Take a queued ticket out, at the priority that it was pushed with."""
        level = self._levels[ticket.priority]
        tickets = level[ticket.stream]
        del tickets[ticket]
        self.queued -= 1
        if not tickets:
            del level[ticket.stream]
            if not level:
                del self._levels[ticket.priority]

    def pick(self) -> Ticket | None:
        """Take out the ticket whose turn it is; None when none may start."""
        for priority in sorted(self._levels, reverse=True) if len(self._levels) > 1 else tuple(self._levels):
            level = self._levels[priority]
            for stream, tickets in level.items():
                ticket = next(iter(tickets))
                if stream.choked:
                    oldest = next(iter(stream.infers))
                    if oldest not in tickets:
                        continue
                    ticket = oldest
                level.move_to_end(stream)
                self.remove(ticket)
                return ticket
        return None

    def __repr__(self) -> str:
        running = self.slots.count(SlotState.RUNNING)
        stopping = self.slots.count(SlotState.STOPPING)
        return (
            f"<Model {self.spec.name}/{self.spec.version} {running} running, {stopping} stopping, "
            f"{len(self._free)} free, {self.queued} queued>"
        )
