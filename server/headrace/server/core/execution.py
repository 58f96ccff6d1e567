"""From queued to done: tickets that get a slot, runs that end, and what goes on when an output has arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from headrace.server.core.admission import check_total, slice_of
from headrace.server.core.chaining import Followers, model_of
from headrace.server.core.completion import Completion
from headrace.server.core.engine_api import End, Ended, Run, Tensor
from headrace.server.core.events import FETCHED_OVERHEAD, Done, Fetched, Outline
from headrace.server.core.holds import Holds
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.references import check_shape
from headrace.server.core.specs import Port
from headrace.server.core.tickets import KeptOutput, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import HeadraceError

_RUNNING, _DONE, _CLOSED = TicketState.RUNNING, TicketState.DONE, TicketState.CLOSED
_NOTHING: Sequence[Tensor] = ()


class Execution:
    def __init__(self, keeper: KeptOutputs, endings: Completion, holds: Holds, *, delayed: bool) -> None:
        self._keeper = keeper
        self._ends = endings
        self._holds = holds
        self._tickets: dict[Run, Sequence[Ticket]] = {}
        self._decided: list[Run] = []
        """Runs that `start` has decided upon, until it has returned them."""
        self._untold: deque[End] = deque()
        """Ends that `ended_in_turn` has still to go through."""
        self.hand: list[Ticket] = []
        """The tickets that are being seen to, the next one last: who they are if something raises that never should."""
        self.followers = Followers(endings, delayed=delayed)

    def queue(self, ticket: Ticket, now: float) -> None:
        """All that a ticket needs is there, but a slot."""
        model = ticket.model
        assert model is not None
        ticket.move(TicketState.QUEUED)
        ticket.ready = now
        if model.spec.batch > 1:
            rows = _rows(ticket)
            ticket.rows = rows if rows <= model.spec.batch else 0
            self._holds.came(ticket, model, now)
        model.push(ticket)
        if not self._holds.goes_on(model, now):
            self._ends.startable[model] = None

    def start(self, now: float) -> list[Run]:
        """Give the free slots to the tickets whose turn it is."""
        startable, starts, holds = self._ends.startable, self._decided, self._holds
        if holds.held:
            for model in holds.over(now):
                startable[model] = None
        while startable:
            model = startable.popitem()[0]
            batches = model.spec.batch > 1
            if batches and holds.wait(model, now):
                continue
            while model.queued and (tickets := model.pick()):
                self.hand = [*tickets]
                if batches:
                    holds.ran(model, len(tickets))
                run = self._start(tickets, model, now)
                if run is not None:
                    starts.append(run)
        self.hand, self._decided = [], []
        self.followers.decided(starts)
        return starts

    def ended(self, ended: Ended, error: HeadraceError | None, now: float) -> None:
        """A run has ended and its slot is free."""
        run = ended.run
        tickets = self._tickets.pop(run)
        hand = self.hand = [*reversed(tickets)]
        model = tickets[0].model
        assert model is not None
        if ended.restoring:
            model.withdraw(run.slot)
        else:
            model.free(run.slot)
        # Whoever stopped it now would stop the next run in its slot.
        self._ends.stops.pop(run, None)
        self._ends.startable[model] = None
        if error is not None and len(tickets) > 1:
            self._run_alone(tickets, model, now)
            hand.clear()
            return
        sent, kept = ended.sent or [_NOTHING] * len(tickets), ended.kept or [_NOTHING] * len(tickets)
        started = tickets[0].started
        done, queued = 0, 0.0
        for ticket, its_sent, its_kept in zip(tickets, sent, kept, strict=True):
            ticket.run = None
            if ticket.finished:
                self._let_go(ticket, now)
            elif self._end(ticket, its_sent, its_kept, error, now):
                done += 1
                queued += started - ticket.arrived
            hand.pop()
        if done:
            model.statistics.ran(len(tickets), done, queued, now - started, ended.times, now)

    def _end(
        self,
        ticket: Ticket,
        sent: Sequence[Tensor],
        kept: Sequence[Tensor],
        error: HeadraceError | None,
        now: float,
    ) -> bool:
        """The run of a ticket that still wants its result is over. False when the ticket has failed."""
        try:
            if error is not None:
                raise error
            self._complete(ticket, sent, kept, now)
        except HeadraceError as failure:
            self._ends.fail(ticket, TicketState.FAILED, failure, now)
            self._keeper.refund(ticket)
            return False
        self._let_go(ticket, now)
        return True

    def give_up(self, error: HeadraceError, now: float) -> None:
        """Something has raised that never should: fail the tickets that were in hand, and go on with all else."""
        hand, self.hand = self.hand, []
        for ticket in hand:
            ticket.run = None
            if ticket.model is not None:
                self._ends.startable[ticket.model] = None
            if ticket.finished:
                self._let_go(ticket, now)
                continue
            if ticket.state is TicketState.QUEUED:
                ticket.move(_RUNNING)  # it was picked, and nobody is to look for it in the queue
            self._ends.fail(ticket, TicketState.FAILED, error, now)
            self._keeper.refund(ticket)
        if self._untold:
            self._go_through(self._untold)

    def slot_restored(self, model: ModelQueue, slot: int) -> None:
        """A slot that was withdrawn can be used again."""
        model.restore(slot)
        self._ends.startable[model] = None

    def ended_in_turn(self, ends: Sequence[End]) -> Sequence[End]:
        """Runs of the latest decision have ended, and followers of them. Returns those that count.

        The others are forgotten, because the ticket of a follower could not start: it has failed, or its stream must
        wait. Then it runs when it can.
        """
        self._untold.extend(ends)
        return self._go_through(self._untold)

    def _go_through(self, ends: deque[End]) -> Sequence[End]:
        counted: list[End] = []
        before = 0.0
        while ends:
            end = ends.popleft()
            run = end.ended.run
            if run in self._tickets or self._start_follower(run, before):
                self.ended(*end)
                counted.append(end)
                before = end.now
            elif end.ended.restoring:
                model_of(run).withdraw(run.slot)
        self.followers.put_back()
        return counted

    def _start_follower(self, run: Run, now: float) -> bool:
        """Have the ticket of a follower start, now that the core knows of all that came before, if it may."""
        ticket = self.followers.pick(run)
        if ticket is None:
            return False
        assert ticket.model is not None
        return self._start((ticket,), ticket.model, now, run) is not None

    def deliver(self, ticket: Ticket, kept: KeptOutput, now: float) -> None:
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
        self._ends.finish(ticket, _DONE, fetched)

    def _start(self, tickets: Sequence[Ticket], model: ModelQueue, now: float, run: Run | None = None) -> Run | None:
        """The run of tickets that were picked; None when none of them can start. `run` is what has been done of it."""
        parts: list[Ticket] = []
        for ticket in tickets:
            ticket.move(_RUNNING)
            ticket.started = now
            if ticket.kept:
                try:
                    ticket.keep = self._keeper.reserve(ticket)
                except HeadraceError as error:
                    self._ends.fail(ticket, TicketState.FAILED, error, now)
                    self._keeper.refund(ticket)
                    continue
            if ticket.sources:
                ticket.references = [kept.tensor for kept in ticket.sources if kept.tensor is not None]
            parts.append(ticket)
        if not parts:
            return None
        slot = model.occupy()
        run = run or Run(model.spec, slot, parts, len(parts))
        for ticket in parts:
            ticket.run = run
        self._tickets[run] = parts
        return run

    def _run_alone(self, tickets: Sequence[Ticket], model: ModelQueue, now: float) -> None:
        """A batch has failed, by the data of one ticket maybe: those that have not ended run again, each alone."""
        again: list[Ticket] = []
        for ticket in tickets:
            ticket.run = None
            if ticket.finished:
                self._let_go(ticket, now)
            else:
                self._keeper.refund(ticket)
                ticket.move(TicketState.QUEUED)
                ticket.rows = 0
                again.append(ticket)
        model.put_back(again)
        if again:
            self._holds.again(model)

    def _let_go(self, ticket: Ticket, now: float) -> None:
        """The run of a ticket that has ended is over."""
        if ticket.kept:
            self._keeper.refund(ticket)
            if ticket.state is _CLOSED:
                ticket.kept = ()
        self._ends.give_back(ticket, now)

    def _complete(self, ticket: Ticket, sent: Sequence[Tensor], kept: Sequence[Tensor], now: float) -> None:
        """Raises what the ticket fails with when its outputs cannot be sent or kept."""
        plan = ticket.plan
        assert plan is not None
        nbytes = sum([tensor.nbytes for tensor in sent])
        if plan.sent_bytes is None:
            check_total(ticket.stream, nbytes + plan.overhead)
        described: Sequence[tuple[Port, Outline]] = ()
        if ticket.kept:
            self._keeper.settle(ticket, kept, now)
            described = [
                (each.port, Outline(each.tensor.datatype, each.tensor.shape))
                for each in ticket.own.values()
                if each.tensor is not None
            ]
        ready, started = ticket.ready, ticket.started
        done = Done(
            ticket, sent, described, nbytes, plan.overhead, ready - ticket.arrived, started - ready, now - started
        )
        self._ends.finish(ticket, _DONE, done)
        for each in ticket.kept:
            if each.waiters:
                self._arrived(each, now)

    def _arrived(self, kept: KeptOutput, now: float) -> None:
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


def _rows(ticket: Ticket) -> int:
    """How many rows a ticket brings to a batch; 0 when its inputs do not agree."""
    assert ticket.plan is not None
    rows = ticket.plan.rows
    for kept in ticket.sources:
        assert kept.tensor is not None
        first = kept.tensor.shape[0]
        rows = first if rows in (None, first) else 0
    return rows or 0


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
