"""Which tickets may be held back although a slot is free, so that more of them share a run."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.core.specs import ModelSpec
from tests.server.core.reference.expected import ExpectedTicket
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns

MAX_WAIT_SECONDS = 0.002
"""The longest that a ticket waits for others when no delay is configured."""
URGENT_SECONDS = 0.02
"""A ticket whose deadline is closer than this waits for no other."""

HasFailed = Callable[[ExpectedTicket], bool]


class Waits:
    def __init__(self, state: ExpectedState, turns: Turns) -> None:
        self._state = state
        self._turns = turns
        self._first_queued: dict[int, float] = {}
        """For each model when a ticket was queued while there was no other, the last time."""
        self._delayed: dict[int, float | None] = {}
        """For each model until when it was found to wait for its delay at the last decision."""

    def queue(self, ticket: ExpectedTicket) -> None:
        """A ticket is about to be queued."""
        assert ticket.call is not None
        if not self._state.queued(ticket.call.spec):
            self._first_queued[id(ticket.call.spec)] = self._state.now
        ticket.queued_at = self._state.now
        ticket.can_wait = self._can_wait(ticket)

    def idle(self) -> None:
        """The event loop has been idle: tickets that wait for others do so no longer."""
        for ticket in self._state.tickets:
            ticket.released = ticket.released or (ticket.held and ticket.queued)

    def delays(self, spec: ModelSpec) -> bool:
        """Whether a decision must start nothing of a model, since the delay is not over."""
        could_start = self._state.free_slots(spec) and self._turns.next(spec)
        due = self._delay_ends(spec) if could_start else None
        delayed = due is not None and due > self._state.now
        self._delayed[id(spec)] = due if delayed else None
        return delayed

    def holds(self, spec: ModelSpec, starts: bool, has_failed: HasFailed) -> bool:
        """Whether a decision that `starts` runs of a model or not has held back the others, which it may do."""
        until = self._may_coalesce_until(spec)
        may_hold = until is not None and until > self._state.now and not any(map(has_failed, self._state.queued(spec)))
        holds = bool(self._state.free_slots(spec) and self._turns.next(spec)) and not starts and may_hold
        for ticket in self._state.queued(spec):
            ticket.held = holds
        return holds

    def check(self, spec: ModelSpec, wake_at: float, *, waits_for_idle: bool) -> None:
        """A decision is to be followed by one at `wake_at`: tickets that could start wait for others until then."""
        if not self._state.free_slots(spec) or not self._turns.next(spec):
            return
        if self._waits_for_processor(spec):
            return
        queued = self._state.queued(spec)
        until = self._delay_ends(spec)
        if until is None:
            until = self._may_coalesce_until(spec)
            assert until is not None, f"{queued} could start and do not"
            assert waits_for_idle, f"{queued} wait, and an idle loop would not release them"
        assert wake_at <= until, f"{queued} wait until {wake_at}, which is later than {until}"

    def ends(self) -> list[float]:
        """When tickets start at the latest that wait for others now."""
        times = [e.queued_at + MAX_WAIT_SECONDS for e in self._state.tickets if e.held and e.queued]
        for spec in self._state.specs:
            due = self._delay_ends(spec)
            delayed = due is not None and due > self._state.now and due == self._delayed.get(id(spec))
            if due is not None and delayed and not self._waits_for_processor(spec):
                times.append(due)
        return times

    def _waits_for_processor(self, spec: ModelSpec) -> bool:
        """Whether the tickets of a model may wait for the end of a run instead."""
        return self._state.shares_processor(spec) and self._state.processor_is_busy

    def _delay_ends(self, spec: ModelSpec) -> float | None:
        """When the configured delay is over; None when it applies to no ticket."""
        delay = self._delay(spec)
        if not delay or not 0 < len(self._state.queued(spec)) < spec.batch:
            return None
        return self._first_queued.get(id(spec), 0.0) + delay

    def _delay(self, spec: ModelSpec) -> float:
        return self._state.limits.batch_delay if spec.batch_delay is None else spec.batch_delay

    def _may_coalesce_until(self, spec: ModelSpec) -> float | None:
        """When the queued tickets of a model start at the latest, if they may be held back; None when they may not.

        The rules do not say when the core holds them back. But every queued ticket must be able to wait and to share a
        run, and a full batch starts.
        """
        queued = self._state.queued(spec)
        limits = self._state.limits
        if not limits.coalesce or self._delay(spec) or not 0 < len(queued) < spec.batch:
            return None
        if not all(e.can_wait and e.rows and not e.released for e in queued):
            return None
        return min(e.queued_at for e in queued) + MAX_WAIT_SECONDS

    def _can_wait(self, ticket: ExpectedTicket) -> bool:
        """It arrived without a frame, its model runs in place, and it is not urgent."""
        assert ticket.call is not None
        urgent = ticket.priority or (ticket.due is not None and ticket.due - self._state.now < URGENT_SECONDS)
        return ticket.stream.unary and ticket.call.spec.direct and not urgent
