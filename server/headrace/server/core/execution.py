"""From queued to done: tickets get a slot, runs end, and tickets that waited for an output go on."""

from __future__ import annotations

from collections import deque
from collections.abc import ItemsView, Sequence

from headrace.server.core.admission import check_total, check_unsent
from headrace.server.core.batching import Batching
from headrace.server.core.chaining import Chaining, queue_of
from headrace.server.core.completion import Completion
from headrace.server.core.counts import Span
from headrace.server.core.engine_api import End, Ended, Run, Tensor
from headrace.server.core.events import Done, Outline
from headrace.server.core.joining import can_wait, rows_of
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.references import check_shapes, sliced_sources
from headrace.server.core.sequences import Sequences
from headrace.server.core.sharing import LONG_SECONDS, Processor
from headrace.server.core.specs import Port
from headrace.server.core.state import KeptOutput, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import HeadraceError

_RUNNING, _DONE, _CLOSED = TicketState.RUNNING, TicketState.DONE, TicketState.CLOSED
_NOTHING: Sequence[Tensor] = ()


class Execution:
    def __init__(
        self,
        kept_outputs: KeptOutputs,
        completion: Completion,
        batching: Batching[ModelQueue[Ticket]],
        processor: Processor[ModelQueue[Ticket]] | None,
        sequences: Sequences,
    ) -> None:
        """Without a `processor`, models do not wait for each other."""
        self._kept_outputs = kept_outputs
        self._sequences = sequences
        self._completion = completion
        self._batching = batching
        self._processor = processor
        self._tickets: dict[Run, Sequence[Ticket]] = {}
        self.runs: ItemsView[Run, Sequence[Ticket]] = self._tickets.items()
        """Those in progress, with their tickets: a view."""
        self._starts: list[Run] = []
        """Runs that `start` has decided to start, until it returns them."""
        self._pending: deque[End] = deque()
        """Ends that `ended_in_place` has still to process."""
        self._processing: list[Ticket] = []
        """The tickets that are being processed, the next one last: those that fail if this code raises by mistake."""
        self.chaining = Chaining(completion, batching.delay)

    def queue(self, ticket: Ticket, now: float) -> None:
        """A ticket has all it needs but a slot."""
        model = ticket.model
        assert model is not None
        ticket.move(TicketState.QUEUED)
        ticket.ready = now
        if model.spec.batch > 1:
            rows = rows_of(ticket)
            ticket.rows = rows if rows <= model.spec.batch else 0
            self._batching.arrive(model, id(ticket.stream), now, can_wait=can_wait(ticket, model, now))
        model.push(ticket)
        if model.bounds is not None and model.bounds.seconds:
            self._completion.bound_wait(ticket, now + model.bounds.seconds)
        if model not in self._batching.held or not self._batching.still_holds(model, now):
            self._completion.startable[model] = None

    def start(self, now: float, *, direct: bool) -> list[Run]:
        """Give the free slots to the tickets whose turn it is; those of models that run directly only if `direct`."""
        startable, starts, batching = self._completion.startable, self._starts, self._batching
        if batching.held:
            for model in batching.expire(now):
                startable[model] = None
        if self._processor is not None:
            self._share(self._processor, now, direct=direct)
        postponed: list[ModelQueue[Ticket]] = []
        while startable:
            model = startable.popitem()[0]
            if not direct and model.spec.direct:
                postponed.append(model)
                continue
            if model.spec.batch > 1 and batching.hold(model, now):
                continue
            while model.queued and self._take_turn(model, now):
                pass
        self._processing, self._starts = [], []
        if postponed:
            startable.update(dict.fromkeys(postponed))
        self.chaining.decided(starts)
        return starts

    def _share(self, processor: Processor[ModelQueue[Ticket]], now: float, *, direct: bool) -> None:
        """Start what models that share the processor may: before runs in place, so that they compute meanwhile."""
        startable = self._completion.startable
        for model in [model for model in startable if model.share.is_counted]:
            if model.spec.direct and not direct:
                continue
            del startable[model]
            if model.spec.batch > 1 and self._batching.hold(model, now):
                continue
            if processor.is_alone(model.share):
                while model.queued and self._take_turn(model, now, alone=True):
                    pass
            else:
                processor.wait(model, now)
        while processor.waiting and (chosen := processor.choose(now)) is not None:
            if self._take_turn(chosen, now):
                processor.wait(chosen, now)

    def _take_turn(self, model: ModelQueue[Ticket], now: float, *, alone: bool = False) -> bool:
        """Start the run whose turn it is in a model. False when no slot is free, or no ticket may start."""
        tickets = model.pick(now)
        if not tickets:
            return False
        self._processing = [*tickets]
        if model.spec.batch > 1:
            self._batching.started(model, len(tickets))
        run = self._start(tickets, model, now)
        if run is not None:
            self._starts.append(run)
            if self._processor is not None and model.share.is_counted:
                run.expected = self._processor.started(model.share, now, alone=alone)
        return True

    def ended(self, ended: Ended, error: HeadraceError | None, now: float) -> None:
        """A run has ended and its slot is free."""
        run = ended.run
        tickets = self._tickets.pop(run)
        processing = self._processing = [*reversed(tickets)]
        model = tickets[0].model
        assert model is not None
        if ended.restoring:
            model.withdraw(run.slot)
        else:
            model.free(run.slot)
        if self._processor is not None:
            if run.expected is not None:
                self._processor.ended(model.share, run.expected, now)
            elif ended.times[1] > LONG_SECONDS:
                model.share.is_counted = model.spec.threads > 0
        model.measure(len(tickets), now - tickets[0].started, now)
        # Stopping it now would stop the next run in its slot.
        self._completion.stops.pop(run, None)
        if model.queued or error is not None or model.share.is_counted:
            self._completion.startable[model] = None
        if error is not None:
            if len(tickets) > 1:
                self._run_alone(tickets, model, now)
                processing.clear()
                return
            if model.full is not None and self._completion.run_in_full(tickets[0], error):
                processing.clear()
                return
        sent, kept = ended.sent or [_NOTHING] * len(tickets), ended.kept or [_NOTHING] * len(tickets)
        started, done, failures = tickets[0].started, 0, ended.failures
        counts = model.counts
        first, arrived, ready, queued = 0, -1.0, -1.0, 0.0
        span: Span | None = None
        for position, (ticket, its_sent, its_kept) in enumerate(zip(tickets, sent, kept, strict=True)):
            ticket.run = None
            if ticket.finished:
                self._let_go(ticket, now)
            elif self._end(
                ticket, its_sent, its_kept, ended, error or failures.get(position) if failures else error, now
            ):
                if ticket.arrived != arrived or ticket.ready != ready:
                    if done > first:
                        queued += counts.started(done - first, arrived, ready, started)
                    first, arrived, ready = done, ticket.arrived, ticket.ready
                    span = Span(counts, arrived, now)
                ticket.span = span
                done += 1
            processing.pop()
        if done:
            model.executions += 1
            if model.demand is not None and (plan := tickets[0].plan) is not None:
                model.demand.ran(plan.asked, ended.times[1])
            queued += counts.started(done - first, arrived, ready, started)
            counts.ran(len(tickets), done, now - started, ended.direct)
            if model.full is not None:
                counts.pruned_runs += 1
            model.statistics.ran(len(tickets), done, queued, now - started, ended.times, now)

    def _end(
        self,
        ticket: Ticket,
        sent: Sequence[Tensor],
        kept: Sequence[Tensor],
        ended: Ended,
        error: HeadraceError | None,
        now: float,
    ) -> bool:
        """Finish a ticket whose run has ended. False when the ticket has failed."""
        try:
            if error is not None:
                raise error
            self._complete(ticket, sent, kept, ended, now)
        except HeadraceError as failure:
            self._completion.fail(ticket, TicketState.FAILED, failure, now)
            self._kept_outputs.refund(ticket)
            return False
        self._let_go(ticket, now)
        if ticket.failed_in is not None:
            self._completion.doubt(ticket.failed_in)
        return True

    def give_up(self, error: HeadraceError, now: float) -> None:
        """This code has raised by mistake: fail the tickets that it was processing, and go on with all others."""
        processing, self._processing = self._processing, []
        for ticket in processing:
            ticket.run = None
            if ticket.model is not None:
                self._completion.startable[ticket.model] = None
            if ticket.finished:
                self._let_go(ticket, now)
                continue
            if ticket.state is TicketState.QUEUED:
                ticket.move(_RUNNING)  # it was picked, so it is not in the queue any more
            self._completion.fail(ticket, TicketState.FAILED, error, now)
            self._kept_outputs.refund(ticket)
        if self._pending:
            self._process(self._pending)

    def slot_restored(self, model: ModelQueue[Ticket], slot: int, *, replaced: bool) -> None:
        """A slot that was withdrawn can be used again."""
        model.restore(slot, replaced=replaced)
        self._completion.startable[model] = None

    def ended_in_place(self, ends: Sequence[End]) -> Sequence[End]:
        """Runs of the latest decision and their followers have ended in place. Returns the ends that count.

        The others are dropped, because the ticket of the follower could not start: it has failed, or its stream is
        backpressured and it will run later.
        """
        self._pending.extend(ends)
        return self._process(self._pending)

    def _process(self, ends: deque[End]) -> Sequence[End]:
        counted: list[End] = []
        before = 0.0
        while ends:
            end = ends.popleft()
            run = end.ended.run
            if run in self._tickets or self._start_follower(run, before):
                end.ended.direct = True
                self.ended(*end)
                counted.append(end)
                before = end.now
            elif end.ended.restoring:
                queue_of(run).withdraw(run.slot)
        self.chaining.told()
        return counted

    def _start_follower(self, run: Run, now: float) -> bool:
        """Start the ticket of a follower, if it may start now that the core has been told of all runs before it."""
        ticket = self.chaining.claim(run, now)
        if ticket is None:
            return False
        assert ticket.model is not None
        return self._start((ticket,), ticket.model, now, run) is not None

    def _start(
        self, tickets: Sequence[Ticket], model: ModelQueue[Ticket], now: float, run: Run | None = None
    ) -> Run | None:
        """Start picked tickets; None when none of them can start. `run` is given when it has already happened."""
        parts: list[Ticket] = []
        for ticket in tickets:
            ticket.move(_RUNNING)
            ticket.started = now
            if ticket.wait_is_bounded:
                self._completion.waits_no_longer(ticket)
            plan = ticket.plan
            assert plan is not None
            try:
                if plan.sent_bytes:
                    check_unsent(ticket.stream, plan.sent_bytes)
                if ticket.kept:
                    ticket.keep = self._kept_outputs.reserve(ticket)
            except HeadraceError as error:
                self._completion.fail(ticket, TicketState.FAILED, error, now)
                self._kept_outputs.refund(ticket)
                continue
            if ticket.sequence is not None:
                ticket.variables = ticket.sequence.variables
            if ticket.sources:
                if ticket.source_slices:
                    ticket.references = sliced_sources(ticket)
                else:
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

    def _run_alone(self, tickets: Sequence[Ticket], model: ModelQueue[Ticket], now: float) -> None:
        """A batch has failed, maybe by the data of one ticket: those that have not ended run again, each alone."""
        again: list[Ticket] = []
        for ticket in tickets:
            ticket.run = None
            if ticket.finished:
                self._let_go(ticket, now)
            else:
                self._kept_outputs.refund(ticket)
                ticket.move(TicketState.QUEUED)
                ticket.rows = 0
                again.append(ticket)
        model.put_back(again)
        if again:
            model.arrivals.complete()

    def _let_go(self, ticket: Ticket, now: float) -> None:
        """The run of a ticket that ended before is over."""
        if ticket.kept:
            self._kept_outputs.refund(ticket)
            if ticket.state is _CLOSED:
                ticket.kept = ()
        self._completion.return_inputs(ticket, now)

    def _complete(
        self,
        ticket: Ticket,
        sent: Sequence[Tensor],
        kept: Sequence[Tensor],
        ended: Ended,
        now: float,
    ) -> None:
        """Send and keep the outputs of a ticket. Raises what the ticket fails with when that is not possible."""
        plan = ticket.plan
        assert plan is not None
        nbytes = sum([tensor.nbytes for tensor in sent])
        if plan.sent_bytes is None:
            check_total(ticket.stream, nbytes + plan.overhead)
        if nbytes:
            check_unsent(ticket.stream, nbytes)
        described: Sequence[tuple[Port, Outline]] = ()
        if ticket.kept:
            self._kept_outputs.settle(ticket, kept, now)
            described = [
                (each.port, Outline(each.tensor.datatype, each.tensor.shape))
                for each in ticket.own.values()
                if each.tensor is not None
            ]
        following = None if ticket.sequence is None else self._sequences.advance(ticket, ended.variables, now)
        ready, started = ticket.ready, ticket.started
        times = ready - ticket.arrived, started - ready, now - started
        shared = len(ended.run.parts)
        done = Done(ticket.tag, plan, sent, described, nbytes, plan.overhead, *times, shared, ended.direct)
        self._completion.finish(ticket, _DONE, done)
        for each in ticket.kept:
            if each.waiters:
                self._wake_waiters(each, now)
        if following is not None:
            self.queue(following, now)

    def _wake_waiters(self, kept: KeptOutput, now: float) -> None:
        """Go on with the tickets that wait for an output."""
        waiters, kept.waiters = kept.waiters, {}
        for ticket in waiters:
            if ticket.finished:
                continue  # it depended on another waiter, which has failed
            ticket.missing -= 1
            if not ticket.infer:
                self._completion.deliver(ticket, kept, now)
            elif not ticket.missing:
                self._sources_ready(ticket, now)

    def _sources_ready(self, ticket: Ticket, now: float) -> None:
        """Check the shapes of a ticket whose sources are all there, and queue it."""
        try:
            check_shapes(ticket)
        except HeadraceError as error:
            self._completion.fail(ticket, TicketState.FAILED, error, now)
        else:
            self.queue(ticket, now)

    def __repr__(self) -> str:
        return f"<Execution {len(self._tickets)}>"
