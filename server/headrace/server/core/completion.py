"""How tickets and streams end.

One terminal event for each ticket, in turn where the stream is ordered, and its echo in the tickets that waited for it.
"""

from __future__ import annotations

from collections import deque

from headrace.server.core.deadlines import Deadlines
from headrace.server.core.engine_api import Run
from headrace.server.core.events import Event, Failed
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.models import Models
from headrace.server.core.streams import Stream
from headrace.server.core.tickets import Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, quote


class Completion:
    """`streams` are those that are open. The rest is what `Core.starts` and `Core.news` take from here."""

    def __init__(self, keeper: KeptOutputs, models: Models) -> None:
        self._keeper = keeper
        self._models = models
        self.streams: dict[Stream, None] = {}
        self.timeouts: Deadlines[Ticket] = Deadlines()
        self.startable: dict[ModelQueue, None] = {}
        """Models that may have a free slot and a ticket for it."""
        self.stops: dict[Run, None] = {}
        """Runs whose tickets have ended first, until somebody was told to stop them."""
        self.dirty: dict[Stream, None] = {}
        """Streams that have something new to say, or have ended."""

    def put(self, stream: Stream, event: Event) -> None:
        """Have a stream say something next."""
        if not stream.ended:
            stream.outbox.append(event)
            self.dirty[stream] = None

    def fail(self, ticket: Ticket, state: TicketState, error: HeadraceError, now: float) -> None:
        """End a ticket without a result, and all the way down those that wait for it, unless it has ended."""
        ends = deque([(ticket, state, error)])
        while ends:
            ticket, state, error = ends.popleft()
            if ticket.finished:
                continue
            if ticket.state is TicketState.QUEUED:
                assert ticket.model is not None
                ticket.model.remove(ticket)
            if ticket.model is not None:
                ticket.model.statistics.failed(now - ticket.arrived)
            for kept in ticket.kept:
                why = f"output {quote(kept.port.name)} of ticket {ticket.tag} will never be: that ticket ended with "
                for waiter in kept.waiters:
                    echo = (FailedPrecondition if waiter.infer else NotFound)(why + error.code.name)
                    ends.append((waiter, TicketState.FAILED, echo))
            self._keeper.drop_all(ticket)
            if ticket.run is None:
                self.give_back(ticket, now)
            else:
                self._leave(ticket.run, ticket)
            self.finish(ticket, state, Failed(ticket, ticket.tag, error))

    def _leave(self, run: Run, ticket: Ticket) -> None:
        """A ticket wants nothing more of its run, which is stopped when none does."""
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
        stream.unsent_bytes += event.nbytes
        if not ticket.infer:
            self.put(stream, event)
            return
        if stream.ordered and not stream.ended:
            ticket.event = event
            self._take_turns(stream)
        else:
            self.put(stream, event)

    def give_back(self, ticket: Ticket, now: float) -> None:
        """Give back what a ticket needed as input: its sources and its bytes; and its model. Once for each Infer."""
        if ticket.sources:
            self._keeper.let_go(ticket, now)
            ticket.references = ()
        ticket.inline = ()
        if ticket.charge is not None:
            ticket.charge.let_go()
            ticket.charge = None
        model = ticket.model
        if model is not None:
            model.holders -= 1
            if not model.holders:
                self._models.let_go(model)

    def handed(self, ticket: Ticket, now: float) -> None:
        """The terminal event is with the transport: the ticket is no longer in flight."""
        stream = ticket.stream
        ticket.handed = True
        stream.in_flight -= 1
        if ticket.infer:
            del stream.infers[ticket]
            if stream.backpressured and stream.infers:
                oldest = next(iter(stream.infers))
                if oldest.state is TicketState.QUEUED:
                    assert oldest.model is not None
                    self.startable[oldest.model] = None
        elif ticket.sources:
            self.give_back(ticket, now)
        self.maybe_close(ticket)

    def maybe_close(self, ticket: Ticket) -> None:
        if ticket.handed and not ticket.own and ticket.state is not TicketState.CLOSED:
            ticket.move(TicketState.CLOSED)
            del ticket.stream.tickets[ticket.tag]
            if ticket.run is None:
                ticket.kept = ()  # they point back: a cycle would wait for the garbage collector

    def maybe_end(self, stream: Stream) -> None:
        """End a stream that has said all, when its client has half-closed or it drains and has nothing left."""
        if stream.ended or stream.in_flight or stream.outbox:
            return
        if stream.half_closed or (stream.draining and not stream.keeps):
            stream.end()
            del self.streams[stream]
            self.dirty[stream] = None

    def vanish(self, stream: Stream, now: float) -> None:
        """End a stream at once; whatever is still in flight is cancelled, and nobody is told."""
        stream.end()
        self.streams.pop(stream, None)
        for ticket in tuple(stream.tickets.values()):
            if not ticket.finished:
                self.fail(ticket, TicketState.CANCELLED, FailedPrecondition("the stream has ended"), now)
            self._keeper.drop_all(ticket)
            if not ticket.handed:
                self.handed(ticket, now)
            else:
                self.maybe_close(ticket)

    def _take_turns(self, stream: Stream) -> None:
        while stream.turns and stream.turns[0].event is not None:
            ticket = stream.turns.popleft()
            event, ticket.event = ticket.event, None
            assert event is not None
            self.put(stream, event)
