"""From queued to done: tickets that get a slot, runs that end, and what goes on when an output has arrived."""

from __future__ import annotations

from headrace.server.core.admission import check_total, slice_of
from headrace.server.core.endings import Endings
from headrace.server.core.events import FETCHED_OVERHEAD, Done, Fetched, Outline
from headrace.server.core.keeper import Keeper
from headrace.server.core.ports import Ended, Run
from headrace.server.core.references import check_shape
from headrace.server.core.scheduler import Model
from headrace.server.core.tables import TicketState
from headrace.server.core.tickets import Kept, Ticket
from headrace.wire.errors import HeadraceError


class Runs:
    def __init__(self, keeper: Keeper, endings: Endings) -> None:
        self._keeper = keeper
        self._ends = endings
        self._tickets: dict[Run, Ticket] = {}

    def queue(self, ticket: Ticket, now: float) -> None:
        """All that a ticket needs is there, but a slot."""
        assert ticket.model is not None
        ticket.move(TicketState.QUEUED)
        ticket.ready = now
        ticket.model.push(ticket)
        self._ends.startable[ticket.model] = None

    def start(self, now: float) -> list[Run]:
        """Give the free slots to the tickets whose turn it is."""
        startable, starts = self._ends.startable, []
        while startable:
            model = startable.popitem()[0]
            while model.has_slot and (ticket := model.pick()) is not None:
                run = self._start(ticket, model, now)
                if run is not None:
                    starts.append(run)
        return starts

    def ended(self, ended: Ended, error: HeadraceError | None, now: float) -> None:
        """A run has ended and its slot is free."""
        ticket = self._tickets.pop(ended.run)
        assert ticket.model is not None
        ticket.model.free(ended.run.slot)
        ticket.run = None
        # Whoever stopped it now would stop the next run in its slot.
        self._ends.stops.pop(ended.run, None)
        self._ends.startable[ticket.model] = None
        if not ticket.finished:
            try:
                if error is not None:
                    raise error
                self._complete(ticket, ended, now)
            except HeadraceError as failure:
                self._ends.fail(ticket, TicketState.FAILED, failure, now)
        self._keeper.refund(ticket)
        self._ends.give_back(ticket, now)
        if ticket.state is TicketState.CLOSED:
            ticket.kept = ()

    def deliver(self, ticket: Ticket, kept: Kept, now: float) -> None:
        """The source of a Fetch is there."""
        assert kept.tensor is not None
        try:
            shape, nbytes = slice_of(kept.tensor, ticket.slices)
            overhead = FETCHED_OVERHEAD + len(kept.port.name.encode())
            check_total(ticket.stream, nbytes + overhead)
        except HeadraceError as error:
            self._ends.fail(ticket, TicketState.FAILED, error, now)
            return
        fetched = Fetched(ticket, kept.port, kept.tensor, ticket.slices, shape, nbytes, overhead)
        self._ends.finish(ticket, TicketState.DONE, fetched)

    def _start(self, ticket: Ticket, model: Model, now: float) -> Run | None:
        assert ticket.plan is not None
        ticket.move(TicketState.RUNNING)
        ticket.started = now
        wanted: tuple[int, ...] = ()
        if ticket.kept:
            try:
                wanted = self._keeper.reserve(ticket)
            except HeadraceError as error:
                self._ends.fail(ticket, TicketState.FAILED, error, now)
                self._keeper.refund(ticket)
                return None
        references = [kept.tensor for kept in ticket.sources if kept.tensor is not None]
        run = Run(ticket.plan, model.occupy(), ticket.inline, references, wanted)
        ticket.run = run
        self._tickets[run] = ticket
        return run

    def _complete(self, ticket: Ticket, ended: Ended, now: float) -> None:
        """Raises what the ticket fails with when its outputs cannot be sent or kept."""
        plan = ticket.plan
        assert plan is not None
        nbytes = sum([tensor.nbytes for tensor in ended.sent])
        check_total(ticket.stream, nbytes + plan.overhead)
        if ticket.kept:
            self._keeper.settle(ticket, ended.run.keep, ended.kept, now)
        done = Done(
            ticket,
            ended.sent,
            [
                (kept.port, Outline(kept.tensor.datatype, kept.tensor.shape))
                for kept in ticket.own.values()
                if kept.tensor is not None
            ],
            nbytes,
            plan.overhead,
            ticket.ready - ticket.arrived,
            ticket.started - ticket.ready,
            now - ticket.started,
        )
        self._ends.finish(ticket, TicketState.DONE, done)
        for kept in ticket.kept:
            if kept.waiters:
                self._arrived(kept, now)

    def _arrived(self, kept: Kept, now: float) -> None:
        """Go on with the tickets that waited for an output."""
        waiters, kept.waiters = kept.waiters, {}
        for ticket in waiters:
            if ticket.finished:
                continue  # the failure of one of them took it along
            ticket.missing -= 1
            if not ticket.infer:
                self.deliver(ticket, kept, now)
            elif not ticket.missing:
                self._go_on(ticket, now)

    def _go_on(self, ticket: Ticket, now: float) -> None:
        """All sources of a ticket are there."""
        assert ticket.plan is not None
        try:
            for reference, source in zip(ticket.plan.references, ticket.sources, strict=True):
                check_shape(reference, source)
        except HeadraceError as error:
            self._ends.fail(ticket, TicketState.FAILED, error, now)
        else:
            self.queue(ticket, now)

    def __repr__(self) -> str:
        return f"<Runs {len(self._tickets)}>"


def inherit(ticket: Ticket) -> None:
    """Let the sources that a ticket waits for start as soon as it would, and their sources too."""
    tickets = [ticket]
    while tickets:
        ticket = tickets.pop()
        for kept in ticket.sources:
            source = kept.ticket
            if source.finished or source.priority >= ticket.priority:
                continue
            if source.state is TicketState.QUEUED:
                assert source.model is not None
                source.model.remove(source)
                source.priority = ticket.priority
                source.model.push(source)
            else:
                source.priority = ticket.priority
                tickets.append(source)
