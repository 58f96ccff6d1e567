"""How tickets and streams end.

Each ticket gets exactly one terminal event, in its turn where the stream is ordered, and its failure is passed on to
the tickets that wait for it. What follows from that is collected here until `Core.decide` returns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from headrace.server.core.admission import (
    Refusal,
    check_total,
    check_unsent,
    described,
    failure,
    model_of,
    slice_of,
)
from headrace.server.core.calls import Call
from headrace.server.core.counts import DONE, REFUSED, Counts, Span, end_of
from headrace.server.core.deadlines import Deadlines
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Run
from headrace.server.core.events import FETCHED_OVERHEAD_BYTES, Event, Failed, Fetched
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.models import Models
from headrace.server.core.quotas import TICKET_BYTES
from headrace.server.core.sequences import Sequences, Step
from headrace.server.core.state import KeptOutput, Stream, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import (
    FailedPrecondition,
    HeadraceError,
    Internal,
    NotFound,
    Unavailable,
)


class Completion:
    def __init__(self, kept_outputs: KeptOutputs, models: Models, sequences: Sequences, counts: Counts) -> None:
        self._kept_outputs = kept_outputs
        self._sequences = sequences
        self._models = models
        self.counts = counts
        self.streams: dict[Stream, None] = {}
        """Those that are open."""
        self.timeouts: Deadlines[Ticket] = Deadlines()
        self.ages: Deadlines[Stream] = Deadlines()
        """Streams that end when they are old enough."""
        self.startable: dict[ModelQueue[Ticket], None] = {}
        """Queues that may have both a free slot and a ticket for it."""
        self.stops: dict[Run, None] = {}
        """Runs to stop, since all their tickets have ended."""
        self.changed: dict[Stream, None] = {}
        """Streams that have a new event, or have ended."""
        self.unsent_freed = False
        """Outputs were sent or dropped while the memory for unsent ones was short."""

    def make_room(
        self, ticket: Ticket, model: ModelQueue[Ticket], sources: Sequence[KeptOutput], now: float
    ) -> Refusal | None:
        """See to it that a ticket that is not admitted yet may wait for a slot. Returns why it may not.

        Another one that makes room fails, and what depends on it. One that waits for sources first may always.
        """
        bounds = model.bounds
        assert bounds is not None
        for kept in sources:
            if kept.tensor is None:
                return None
        try:
            other = model.make_room(bounds, ticket.priority, ticket.stream.owner)
        except HeadraceError as error:
            model.statistics.refused += 1
            return "queue", error
        if other is not None:
            model.statistics.overdue += 1
            self.fail(other, TicketState.FAILED, bounds.full(model.waiting), now)
        return None

    def bound_wait(self, ticket: Ticket, until: float) -> None:
        """A ticket waits for a slot until then at most. Its timeout counts if it comes first."""
        if ticket.due is None or until < ticket.due:
            if not ticket.wait_is_bounded:
                ticket.wait_is_bounded, ticket.timeout_due = True, ticket.due
            self.timeouts.set(ticket, until)

    def time_out(self, ticket: Ticket, now: float, timeout: float, queue_timeout: float) -> None:
        """A ticket ends within `timeout` seconds, and its run starts within `queue_timeout`, 0 for any time."""
        ends = now + timeout if timeout else None
        if queue_timeout and (ends is None or queue_timeout < timeout):
            ticket.wait_due = now + queue_timeout
            ticket.wait_is_bounded, ticket.timeout_due = True, ends
            self.timeouts.set(ticket, ticket.wait_due)
        elif ends is not None:
            self.timeouts.set(ticket, ends)

    def waits_no_longer(self, ticket: Ticket) -> None:
        """Its run starts: what counts is its timeout, if it has one."""
        ticket.wait_is_bounded = False
        if ticket.timeout_due is None:
            self.timeouts.drop(ticket)
        else:
            self.timeouts.set(ticket, ticket.timeout_due)

    def put(self, stream: Stream, event: Event) -> None:
        """Add an event to the outbox of a stream."""
        if not stream.ended:
            stream.outbox.append(event)
            self.changed[stream] = None
            if not event.admitted:
                stream.charge_event()

    def refuse(self, stream: Stream, tag: int, reason: str, error: HeadraceError, model: str = "") -> None:
        """Not to admit an Infer or a Fetch, for one of `counts.REASONS`."""
        self.counts.rejected[reason] += 1
        self.put(stream, Failed(tag, error, admitted=False, model=model))

    def refuse_infer(
        self, stream: Stream, tag: int, call: int | DefinedCall, step: Step | None, refusal: Refusal
    ) -> None:
        """Not to admit an Infer."""
        asked = described(stream, call)
        reason, error = refusal
        self.refuse(stream, tag, reason, error, model_of(asked))
        self.missed(asked, step, REFUSED, error)

    def fail_unbound(
        self, ticket: Ticket, call: int | DefinedCall, step: Step | None, error: HeadraceError, now: float
    ) -> None:
        """End an Infer that has been admitted, but not got its model."""
        asked = described(ticket.stream, call)
        self.fail(ticket, TicketState.FAILED, error, now, model_of(asked))
        self.missed(asked, step, "failed", error)

    def missed(self, call: Call | None, step: Step | None, outcome: str, error: HeadraceError) -> None:
        """An Infer of a call, None if it is not defined, never needed its model: it counts, and leaves a gap."""
        counts = self._models.no_model
        if call is not None:
            counts = self._models.counts_of(call.model, call.version)
            if step is not None:
                self._sequences.missed(call.model, step, error)
        counts.ended(outcome, error.code.name)

    def fail(self, ticket: Ticket, state: TicketState, error: HeadraceError, now: float, model: str = "") -> None:
        """End a ticket without a result, and every ticket that depends on it. No effect if it has ended.

        `model` is the name that its client has used, if it has not got its model yet.
        """
        failing = deque([(ticket, state, error)])
        while failing:
            ticket, state, error = failing.popleft()
            if ticket.finished:
                continue
            if ticket.state is TicketState.QUEUED:
                assert ticket.model is not None
                ticket.model.remove(ticket)
            if ticket.model is not None:
                ticket.model.statistics.failed(now - ticket.arrived)
                ticket.model.counts.failed += 1
                ticket.model.counts.ended(*end_of(state, error))
            elif not ticket.infer:
                self.counts.fetched(end_of(state, error))
            for kept in ticket.kept:
                lost = f"{kept} is not available: the ticket ended with "
                for waiter in kept.waiters:
                    passed_on = (FailedPrecondition if waiter.infer else NotFound)(lost + error.code.name)
                    failing.append((waiter, TicketState.FAILED, passed_on))
            if ticket.sequence is not None:
                behind = self._sequences.cut(ticket, state, error)
                failing.extend((each, TicketState.FAILED, passed_on) for each, passed_on in behind)
            self._kept_outputs.drop_all(ticket)
            if ticket.run is None:
                self.return_inputs(ticket, now)
            else:
                self._leave_run(ticket.run, ticket)
            self.finish(ticket, state, failure(ticket, error, now, model))

    def deliver(self, ticket: Ticket, kept: KeptOutput, now: float) -> None:
        """Finish a Fetch whose source is there."""
        assert kept.tensor is not None
        try:
            shape, nbytes = slice_of(kept.tensor, ticket.slices)
            overhead = FETCHED_OVERHEAD_BYTES + len(kept.port.name.encode())
            check_total(ticket.stream, nbytes + overhead)
            check_unsent(ticket.stream, nbytes)
        except HeadraceError as error:
            self.fail(ticket, TicketState.FAILED, error, now)
            return
        self.counts.fetched(DONE)
        fetched = Fetched(ticket.tag, kept.port, kept.tensor, ticket.slices, shape, nbytes, overhead)
        self.finish(ticket, TicketState.DONE, fetched)

    def _leave_run(self, run: Run, ticket: Ticket) -> None:
        """A running ticket has ended: stop its run unless another ticket still wants the result."""
        run.wanted -= 1
        if not run.wanted:
            assert ticket.model is not None
            ticket.model.stop(run.slot)
            self.stops[run] = None

    def finish(self, ticket: Ticket, state: TicketState, event: Event) -> None:
        """Give a ticket its terminal event."""
        stream = ticket.stream
        ticket.move(state)
        if ticket.due is not None:
            self.timeouts.drop(ticket)
        stream.add_unsent(event)
        if ticket.infer and stream.ordered and not stream.ended:
            ticket.event = event
            self._take_turns(stream)
        else:
            self.put(stream, event)

    def run_in_full(self, ticket: Ticket, error: HeadraceError) -> bool:
        """The run of a ticket has failed in a variant: queue it in the model, whose result or failure is what counts.

        False where the model would not do better, or has been unloaded.
        """
        variant = ticket.model
        assert variant is not None
        model = variant.full
        if ticket.finished or model is None or not model.holders or not isinstance(error, (Internal, Unavailable)):
            return False
        ticket.run = None
        self._kept_outputs.refund(ticket)
        ticket.move(TicketState.QUEUED)
        ticket.rows = 0
        ticket.model, ticket.failed_in = model, variant
        model.holders += 1
        model.put_back((ticket,))
        model.arrivals.complete()
        self.startable[model] = None
        variant.holders -= 1
        if not variant.holders:
            self._models.let_go(variant)
        return True

    def doubt(self, variant: ModelQueue[Ticket]) -> None:
        """What has failed in a variant has succeeded in its model."""
        self._models.doubt(variant)

    def return_inputs(self, ticket: Ticket, now: float) -> None:
        """Give back what a ticket needed to run: sources, message and model. Once for each Infer."""
        if ticket.sources:
            self._kept_outputs.let_go(ticket, now)
            ticket.references = ()
            if ticket.source_slices:
                ticket.source_slices = ()
        ticket.inline = ()
        ticket.variables = None
        if ticket.charge is not None:
            ticket.charge.let_go()
            ticket.charge = None
        model = ticket.model
        if model is not None:
            model.holders -= 1
            if not model.holders:
                self._models.let_go(model)

    def handed_off(self, stream: Stream, events: Sequence[Event], now: float) -> bool:
        """The transport has the terminal events of these tickets: they are no longer in flight.

        False when there is nothing for `Core.decide` to return.
        """
        before = stream.in_flight
        span: Span | None = None
        same = 0
        for event in events:
            if event.admitted:
                ticket = stream.tickets.get(event.tag)
                if ticket is not None:
                    if ticket.span is not span:
                        if span is not None:
                            span.counts.sent(same, span, now)
                        span, same = ticket.span, 0
                    if span is not None:
                        same += 1
                    elif ticket.model is not None:
                        ticket.model.counts.handed_off += 1
                    self._leave_flight(ticket, now)
        if span is not None:
            span.counts.sent(same, span, now)
        if events and not stream.unary:
            self.counts.frame_events.add(float(len(events)), 1)
        stream.shares.tickets.refund(TICKET_BYTES * (before - stream.in_flight))
        if stream.backpressured:
            oldest = stream.oldest_infer
            if oldest is not None and oldest.state is TicketState.QUEUED:
                assert oldest.model is not None
                oldest.model.resume(stream)
                self.startable[oldest.model] = None
        self.maybe_end(stream)
        return bool(self.startable or self.changed or self.stops or self._models.unneeded) or self.unsent_freed

    def _leave_flight(self, ticket: Ticket, now: float) -> None:
        """The caller refunds what it was charged."""
        stream = ticket.stream
        ticket.handed_off = True
        stream.in_flight -= 1
        if stream.client is not None:
            stream.client.in_flight -= 1
        if ticket.infer:
            del stream.infers[ticket]
        elif ticket.sources:
            self.return_inputs(ticket, now)
        self.maybe_close(ticket)

    def maybe_close(self, ticket: Ticket) -> None:
        """Free the tag of a ticket that is no longer in flight and keeps nothing."""
        if ticket.handed_off and not ticket.own and ticket.state is not TicketState.CLOSED:
            ticket.move(TicketState.CLOSED)
            del ticket.stream.tickets[ticket.tag]
            if ticket.run is None:
                ticket.kept = ()  # they refer to the ticket, and the cycle would wait for the garbage collector

    def maybe_end(self, stream: Stream) -> None:
        """End a stream with nothing in flight, once its client has half-closed or, draining, once it keeps nothing."""
        if stream.ended or stream.in_flight or stream.outbox:
            return
        if stream.half_closed or (stream.draining and not stream.keeps):
            stream.end()
            self.ages.drop(stream)
            del self.streams[stream]
            self.changed[stream] = None

    def abandon(self, stream: Stream, now: float) -> None:
        """End a stream at once, without events; cancel what is in flight."""
        self.unsent_freed |= stream.shares.unsent.is_tight
        is_answered = stream.single and not stream.outbox
        stream.vanish()
        self.ages.drop(stream)
        self.streams.pop(stream, None)
        for ticket in tuple(stream.tickets.values()):
            if not ticket.finished:
                self.fail(ticket, TicketState.CANCELLED, FailedPrecondition("the stream has ended"), now)
            self._kept_outputs.drop_all(ticket)
            if not ticket.handed_off:
                if ticket.span is not None and is_answered:
                    ticket.span.counts.sent(1, ticket.span, now)
                elif ticket.model is not None:
                    ticket.model.counts.handed_off += 1
                self._leave_flight(ticket, now)
                stream.shares.tickets.refund(TICKET_BYTES)
            else:
                self.maybe_close(ticket)

    def resume(self, stream: Stream) -> None:
        """A stream is not backpressured any more: those of its tickets may start that were passed over."""
        models, stream.passed_over = stream.passed_over, {}
        for model in models:
            model.resume(stream)
            self.startable[model] = None

    def resume_all(self) -> None:
        """The same for every stream, since memory for unsent outputs that was short is free again."""
        self.unsent_freed = False
        for stream in self.streams:
            if stream.passed_over and not stream.backpressured:
                self.resume(stream)

    def _take_turns(self, stream: Stream) -> None:
        """Put out the terminal events of an ordered stream whose turn has come."""
        while stream.turns and stream.turns[0].event is not None:
            ticket = stream.turns.popleft()
            event, ticket.event = ticket.event, None
            assert event is not None
            self.put(stream, event)
