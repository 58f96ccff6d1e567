"""Whose turn it is, and who runs with whom, as the rules say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from tests.server.core.books import Books, ExpectedStream, ExpectedTicket

Tickets = Sequence[ExpectedTicket]
MOST = 0.002
"""Seconds that anybody is left to wait for others unasked."""
URGENT = 0.02
"""Who has to be done in less waits for nobody."""


class Turns(Books):
    def __init__(self, limits: Limits, specs: Sequence[ModelSpec]) -> None:
        super().__init__(limits, specs)
        self._clock = 0
        self._front = 0
        """Before all that has come or was put back until now."""
        self._turns: dict[tuple[int, int, int], int] = {}
        self._since: dict[int, float] = {}
        """For each model when a ticket came while none was queued, the last time."""
        self._waits: dict[int, float | None] = {}
        """Until when the model was found to wait for more tickets, though it might start, at the last decision."""

    def tick(self) -> int:
        """Something has happened: what happens at one tick has no order."""
        self._clock += 1
        return self._clock

    def backpressured(self, stream: ExpectedStream) -> bool:
        return stream.unsent > self.limits.unsent_bytes

    def queue(self, ticket: ExpectedTicket) -> None:
        """Everything is there but a slot."""
        assert ticket.call is not None
        if not self.queued(ticket.call.spec):
            self._since[id(ticket.call.spec)] = self.now
        ticket.came = self.now
        ticket.patient = self._is_patient(ticket)
        self._line_up(ticket, self._clock)

    def put_back(self, tickets: Tickets) -> None:
        """A batch of them has failed: they run again, each alone, before all others of their streams."""
        self._front -= len(tickets)
        for place, ticket in enumerate(tickets):
            self.tick()
            ticket.run, ticket.alone = None, True
            self._line_up(ticket, self._front + place)

    def inherit(self, ticket: ExpectedTicket) -> None:
        for source in {id(out.ticket): out.ticket for out in ticket.deps}.values():
            if source.end is None and source.priority < ticket.priority:
                queued = source.queued
                source.ready = None if queued else source.ready
                source.priority = ticket.priority
                if queued:
                    self._line_up(source, self._clock)
                self.inherit(source)

    def served(self, ticket: ExpectedTicket) -> None:
        """It was this ticket's turn, so that it is another stream's now."""
        self._turns[self._key(ticket)] = self.tick()

    def quiet(self) -> None:
        """Nothing has happened for a while: who was left to wait for others does so no longer."""
        for ticket in self.tickets:
            ticket.released = ticket.released or (ticket.held and ticket.queued)

    def waits_until(self, spec: ModelSpec) -> float | None:
        """Until when nothing of a model starts, because more may come to run with what is queued."""
        due = self.delayed_until(spec)
        return due if due is not None and due > self.now else None

    def delayed_until(self, spec: ModelSpec) -> float | None:
        """When the delay is over that was asked for; None when it concerns nobody."""
        if not self.limits.batch_delay or not 0 < len(self.queued(spec)) < spec.batch:
            return None
        return self._since[id(spec)] + self.limits.batch_delay

    def may_gather_until(self, spec: ModelSpec) -> float | None:
        """When what is queued of a model has to start at the latest, if it may be left to wait; None when it may not.

        Nobody says when the core lets it. But it must be able to gain by it, for the runs of the model are done in
        place and shared; everybody who is queued must have come alone and have time; and a batch that is full goes.
        """
        queued = self.queued(spec)
        if not self.limits.coalesce or self.limits.batch_delay or not 0 < len(queued) < spec.batch:
            return None
        if not all(e.patient and e.rows and not e.released for e in queued):
            return None
        return min(e.came for e in queued) + MOST

    def check_waits(self, spec: ModelSpec, due: float, *, gathering: bool) -> None:
        """Nothing is about to be decided before `due`: who might start waits for others, and not for ever.

        `gathering`: nor longer than it takes to be quiet.
        """
        if not self.free_slots(spec) or not self.picks(spec):
            return
        until = self.delayed_until(spec)
        if until is None:
            until = self.may_gather_until(spec)
            assert until is not None, f"{self.queued(spec)} might start and do not"
            assert gathering, f"{self.queued(spec)} wait, and quiet would change nothing"
        assert due <= until, f"{self.queued(spec)} wait until {due}, which must be over by {until}"

    def dues(self) -> list[float]:
        waits = [(self.waits_until(spec), self._waits.get(id(spec))) for spec in self.specs]
        held = [e.came + MOST for e in self.tickets if e.held and e.queued]
        return [*super().dues(), *(now for now, then in waits if now is not None and now == then), *held]

    def picks(self, spec: ModelSpec, before: Tickets = ()) -> list[ExpectedTicket]:
        """The tickets of which one has its turn next, after those `before`.

        None, one, or several that came at the same time.
        """
        queued = [e for e in self.queued(spec) if e not in before]
        may = [e for e in queued if not self.backpressured(e.stream) or e is e.stream.infers[0]]
        top = [e for e in may if e.priority == max(each.priority for each in may)]
        if not top:
            return []
        stream = min(top, key=lambda e: self._turn(e, before)).stream
        mine = [e for e in top if e.stream is stream]
        return [e for e in mine if e.ready == min(each.ready for each in mine if each.ready is not None)]

    def order(
        self, spec: ModelSpec, runs: Sequence[Tickets], has_failed: Callable[[ExpectedTicket], bool], *, alone: bool
    ) -> list[ExpectedTicket]:
        """Whose turns must have come, and in which order, so that just these runs start.

        There are those between them that got no slot, because the quota was used up. `alone`: of the others nothing was
        decided yet.
        """
        free = self.free_slots(spec)
        until = self._waits[id(spec)] = self.waits_until(spec) if free and self.picks(spec) else None
        if until is not None:
            assert not runs, f"{runs} started, and must wait for more until {until}"
            return []
        if not alone:
            gathers = bool(free and self.picks(spec)) and not runs and self._may_gather(spec, has_failed)
            for ticket in self.queued(spec):
                ticket.held = gathers
            if gathers:
                return []
        found = self._explain(spec, runs, [], free, has_failed, alone=alone)
        assert found is not None, f"{runs} started, {free} slots were free, queued were {self.queued(spec)}"
        return found

    # -------------------------------------------------------------------------------------------------------- inside

    def _is_patient(self, ticket: ExpectedTicket) -> bool:
        """Whether a ticket that is being queued may be left to wait: it came alone, of no priority, and has time."""
        assert ticket.call is not None
        hurries = ticket.priority or (ticket.due is not None and ticket.due - self.now < URGENT)
        return ticket.stream.unary and ticket.call.spec.direct and not hurries

    def _may_gather(self, spec: ModelSpec, has_failed: Callable[[ExpectedTicket], bool]) -> bool:
        until = self.may_gather_until(spec)
        return until is not None and until > self.now and not any(map(has_failed, self.queued(spec)))

    def _explain(
        self,
        spec: ModelSpec,
        runs: Sequence[Tickets],
        before: Tickets,
        free: int,
        has_failed: Callable[[ExpectedTicket], bool],
        *,
        alone: bool,
    ) -> list[ExpectedTicket] | None:
        """Those whose turns came after those `before`; None when the rules do not lead to these runs."""
        picks = self.picks(spec, before)
        if not free or not picks:
            return None if runs else []
        if alone and not runs and not any(map(has_failed, picks)):
            return []
        queued = len(self.queued(spec)) - len(before)
        most = spec.batch if spec.direct else min(spec.batch, (queued + free - 1) // free)
        for batch in self._batches(spec, most, before, [], has_failed):
            parts = [e for e in batch if not has_failed(e)]
            if parts and (not runs or parts != [*runs[0]]):
                continue
            rest = runs[bool(parts) :]
            later = self._explain(spec, rest, [*before, *batch], free - bool(parts), has_failed, alone=alone)
            if later is not None:
                return [*batch, *later]
        return None

    def _batches(
        self,
        spec: ModelSpec,
        most: int,
        before: Tickets,
        batch: list[ExpectedTicket],
        has_failed: Callable[[ExpectedTicket], bool],
    ) -> Iterator[list[ExpectedTicket]]:
        """Every batch that may come next, as it has begun: of those that came at the same time, each may be first."""
        turns = self.picks(spec, [*before, *batch])
        fitting = [e for e in turns if not batch or _fits(e, batch, most)]
        if len(fitting) < len(turns) or not turns:
            yield batch
        for ticket in fitting:
            yield from self._batches(spec, most, before, [*batch, ticket], has_failed)

    def _line_up(self, ticket: ExpectedTicket, ready: int) -> None:
        key = self._key(ticket)
        if not any(e.queued and e is not ticket and self._key(e) == key for e in ticket.stream.tickets):
            self._turns[key] = self._clock
        ticket.ready = ready

    def _turn(self, ticket: ExpectedTicket, before: Tickets) -> int:
        """When it was its stream's turn the last time, or when its stream came; the smallest is the next."""
        key = self._key(ticket)
        served = [self._clock + at for at, other in enumerate(before, 1) if self._key(other) == key]
        return served[-1] if served else self._turns[key]

    @staticmethod
    def _key(ticket: ExpectedTicket) -> tuple[int, int, int]:
        assert ticket.call is not None
        return id(ticket.call.spec), ticket.priority, id(ticket.stream)


def _fits(ticket: ExpectedTicket, batch: Tickets, most: int) -> bool:
    """Whether a ticket may run with these, who are not more than one or may share a run."""
    alone = not ticket.rows or not batch[0].rows or ticket.priority != batch[0].priority
    return not alone and sum(e.rows for e in batch) + ticket.rows <= most
