"""What the time ends: tickets at their deadline, kept outputs and sequences after their keep time, old streams,
and all after the grace period."""

from __future__ import annotations

import math

from headrace.server.core.completion import Completion
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.sequences import Sequences
from headrace.server.core.state import Ticket
from headrace.server.core.stream_ends import StreamEnds
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import DeadlineExceeded, HeadraceError, Unavailable


class Expiry:
    """`grace_ends`: when what is left of a draining server fails; infinity while it does not drain.

    `announced`: what `first` was when the core last decided.
    """

    def __init__(
        self, completion: Completion, kept_outputs: KeptOutputs, sequences: Sequences, stream_ends: StreamEnds
    ) -> None:
        self.grace_ends = self.announced = math.inf
        self._completion = completion
        self._kept_outputs = kept_outputs
        self._sequences = sequences
        self._stream_ends = stream_ends
        self._expiring: Ticket | None = None

    def first(self) -> float:
        """When `expire` has something to do next, at the earliest; infinity for never."""
        return min(
            self._completion.timeouts.first,
            self._kept_outputs.times.first,
            self._sequences.times.first,
            self._completion.ages.first,
            self.grace_ends,
        )

    def expire(self, now: float) -> None:
        """End what is due."""
        for ticket in self._completion.timeouts.pop(now):
            self._expiring = ticket
            if ticket.wait_is_bounded:
                self._waited(ticket, now)
                continue
            late = DeadlineExceeded(f"ticket {ticket.tag} had not ended {now - ticket.arrived:.6f} s after it arrived")
            self._completion.fail(ticket, TicketState.EXPIRED, late, now)
        self._expiring = None
        for kept in self._kept_outputs.expired(now):
            self._completion.maybe_close(kept.ticket)
            self._completion.maybe_end(kept.ticket.stream)
        self._sequences.end_idle(now)
        if self._completion.ages.first <= now:
            self._stream_ends.expire(now)
        if now >= self.grace_ends:
            self.grace_ends = math.inf
            self._stop(now)

    def _waited(self, ticket: Ticket, now: float) -> None:
        """A ticket has waited for its run as long as it may."""
        if ticket.wait_due is not None and now >= ticket.wait_due:
            after = now - ticket.arrived
            late = DeadlineExceeded(f"ticket {ticket.tag} had not started {after:.6f} s after it arrived")
            self._completion.fail(ticket, TicketState.EXPIRED, late, now)
            return
        model = ticket.model
        assert model is not None
        assert model.bounds is not None
        model.statistics.overdue += 1
        error = model.bounds.waited(ticket.tag, now - ticket.ready, model.waiting)
        self._completion.fail(ticket, TicketState.FAILED, error, now)

    def give_up(self, error: HeadraceError, now: float) -> None:
        """Fail the ticket at which `expire` has raised by mistake."""
        expiring, self._expiring = self._expiring, None
        if expiring is not None:
            self._completion.fail(expiring, TicketState.FAILED, error, now)

    def _stop(self, now: float) -> None:
        """The grace period is over: fail what is left."""
        stopped = Unavailable("the server has stopped")
        for stream in tuple(self._completion.streams):
            # The newest first, so that none fails for want of its source, which would not be retryable.
            for ticket in reversed(tuple(stream.tickets.values())):
                self._completion.fail(ticket, TicketState.FAILED, stopped, now)
                self._kept_outputs.drop_all(ticket)
                self._completion.maybe_close(ticket)
            self._completion.maybe_end(stream)

    def __repr__(self) -> str:
        return f"<Expiry {len(self._completion.timeouts)} timeouts, {len(self._kept_outputs.times)} kept outputs>"
