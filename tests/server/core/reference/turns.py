"""Whose turn it is: by priority, then one stream after the other, then first come, first served."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.specs import ModelSpec
from tests.server.core.reference.expected import ExpectedTicket
from tests.server.core.reference.state import ExpectedState


class Turns:
    def __init__(self, state: ExpectedState) -> None:
        self._state = state
        self._front = 0
        """A place before all that are taken."""
        self._last_turn: dict[tuple[int, int, int], int] = {}
        """For each model, priority and stream: when it had its turn, or when it came."""

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
        """This ticket had its turn, so the next one is another stream's."""
        self._last_turn[_key(ticket)] = self._state.tick()

    def next(self, spec: ModelSpec, before: Sequence[ExpectedTicket] = ()) -> list[ExpectedTicket]:
        """The tickets of which one has its turn next, once those in `before` have had theirs.

        None, one, or several that came at the same time.
        """
        queued = [e for e in self._state.queued(spec) if e not in before]
        may_start = [e for e in queued if not self._state.backpressured(e.stream) or e is e.stream.infers[0]]
        top = [e for e in may_start if e.priority == max(each.priority for each in may_start)]
        if not top:
            return []
        stream = min(top, key=lambda e: self._turn(e, before)).stream
        of_stream = [e for e in top if e.stream is stream]
        first = min(each.place for each in of_stream if each.place is not None)
        return [e for e in of_stream if e.place == first]

    def _turn(self, ticket: ExpectedTicket, before: Sequence[ExpectedTicket]) -> int:
        """When its stream had its last turn, or came; the smallest is the next."""
        key = _key(ticket)
        served = [self._state.clock + number for number, other in enumerate(before, 1) if _key(other) == key]
        return served[-1] if served else self._last_turn[key]

    def _line_up(self, ticket: ExpectedTicket, place: int) -> None:
        key = _key(ticket)
        if not any(e.queued and e is not ticket and _key(e) == key for e in ticket.stream.tickets):
            self._last_turn[key] = self._state.clock
        ticket.place = place


def _key(ticket: ExpectedTicket) -> tuple[int, int, int]:
    assert ticket.call is not None
    return id(ticket.call.spec), ticket.priority, id(ticket.stream)
