"""Whose turn it is: by priority, then one owner after the other, then one stream after the other, then first come,
first served. Waiting raises a priority.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from headrace.server.core.specs import ModelSpec
from tests.server.core.reference.expected import ExpectedTicket
from tests.server.core.reference.state import ExpectedState

AGING_SECONDS = 1.0
"""After a wait of this length a priority counts one higher."""

Key = tuple[Hashable, ...]


class Turns:
    def __init__(self, state: ExpectedState) -> None:
        self._state = state
        self._front = 0
        """A place before all that are taken."""
        self._last_turn: dict[Key, int] = {}
        """For each model and priority, each owner there, and each of its streams: when it had its turn, or came."""
        self._since: dict[Key, float] = {}
        """The time of that."""

    def line_up(self, ticket: ExpectedTicket) -> None:
        """Everything that a ticket needs is there but a slot."""
        self._line_up(ticket, self._state.clock)

    def put_back(self, tickets: Sequence[ExpectedTicket]) -> None:
        """A batch of them has failed: they run again, each alone, before all others of their streams."""
        self._front -= len(tickets)
        for number, ticket in enumerate(tickets):
            self._state.tick()
            ticket.run, ticket.runs_alone = None, True
            self._line_up(ticket, self._front + number)

    def inherit_priority(self, ticket: ExpectedTicket) -> None:
        """Raise the priority of the tickets that this one waits for, and of their sources in turn."""
        for source in {id(output.ticket): output.ticket for output in ticket.sources}.values():
            if source.end is None and source.priority < ticket.priority:
                queued = source.queued
                source.place = None if queued else source.place
                source.priority = ticket.priority
                if queued:
                    self._line_up(source, self._state.clock)
                self.inherit_priority(source)

    def served(self, ticket: ExpectedTicket) -> None:
        """This ticket had its turn, so the next one is another priority's, owner's and stream's."""
        turn = self._state.tick()
        for key in _keys(ticket):
            self._last_turn[key], self._since[key] = turn, self._state.now

    def next(
        self, spec: ModelSpec, before: Sequence[ExpectedTicket] = (), priority: int | None = None
    ) -> list[ExpectedTicket]:
        """The tickets of which one has its turn next, once those in `before` have had theirs.

        None, one, or several that came at the same time. Of one priority, or of all.
        """
        queued = [e for e in self._state.queued(spec) if e not in before]
        may_start = [e for e in queued if not self._state.backpressured(e.stream) or e is e.stream.infers[0]]
        priorities = {e.priority for e in may_start}
        heads = [self._head([e for e in may_start if e.priority == each], before) for each in priorities]
        if priority is not None:
            return next((head for head in heads if head[0].priority == priority), [])
        top = max(priorities, default=0)
        return max(heads, key=lambda head: self._rank(head[0], top, before), default=[])

    def _head(self, tickets: Sequence[ExpectedTicket], before: Sequence[ExpectedTicket]) -> list[ExpectedTicket]:
        """Those of which one has the next turn, of tickets of one priority."""
        for depth in (1, 2):
            first = min(tickets, key=lambda e: self._turn(_keys(e)[depth], before))
            tickets = [e for e in tickets if _keys(e)[depth] == _keys(first)[depth]]
        place = min(each.place for each in tickets if each.place is not None)
        return [e for e in tickets if e.place == place]

    def _rank(self, head: ExpectedTicket, top: int, before: Sequence[ExpectedTicket]) -> tuple[float, int]:
        """The largest has the next turn: the priority, raised by waiting up to the `top` one; of equal ones that which
        had its turn first.
        """
        level, owner, _ = _keys(head)
        since = self._state.now if any(owner in _keys(other) for other in before) else self._since[owner]
        waited = self._state.now - min(head.queued_at, since)
        return min(top, head.priority + waited // AGING_SECONDS), -self._turn(level, before)

    def _turn(self, key: Key, before: Sequence[ExpectedTicket]) -> int:
        """When it had its last turn, or came; the smallest is the next."""
        served = [self._state.clock + number for number, other in enumerate(before, 1) if key in _keys(other)]
        return served[-1] if served else self._last_turn[key]

    def _line_up(self, ticket: ExpectedTicket, place: int) -> None:
        others = [e for e in self._state.tickets if e.queued and e is not ticket]
        taken = {key for other in others for key in _keys(other)}
        for key in _keys(ticket):
            if key not in taken:
                self._last_turn[key], self._since[key] = self._state.clock, ticket.queued_at
        ticket.place = place


def _keys(ticket: ExpectedTicket) -> tuple[Key, Key, Key]:
    """Its model and priority, its owner there, and its stream there."""
    assert ticket.call is not None
    level: Key = id(ticket.call.spec), ticket.priority
    owner = *level, ticket.stream.owner
    return level, owner, (*owner, id(ticket.stream))
