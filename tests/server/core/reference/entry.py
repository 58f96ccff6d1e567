"""Who may wait for a slot of a model, and who has to make room."""

from __future__ import annotations

from collections import Counter

from headrace.server.core.specs import ModelSpec
from headrace.server.core.transitions import TicketState
from tests.server.core.reference.ends import Ends
from tests.server.core.reference.expected import ExpectedEvent, ExpectedStream, ExpectedTicket
from tests.server.core.reference.state import ExpectedState


class Entry:
    def __init__(self, state: ExpectedState, ends: Ends) -> None:
        self._state = state
        self._ends = ends

    def refuses(self, stream: ExpectedStream, tag: int, spec: ModelSpec, priority: int) -> bool:
        """Whether a ticket that could run is refused. Otherwise another one may make room for it, and fails."""
        state = self._state
        most, seconds = state.bounds(spec)
        waiting = state.waiting(spec)
        at_once = state.free_slots(spec) * spec.batch
        before = self._before(spec, stream.owner, priority) - at_once
        if seconds and before > 0 and (before + 1) * state.pace[id(spec)] > seconds:
            self._refuse(stream, tag, "would wait")
            return True
        if not most or len(waiting) - at_once < most:
            return False
        failed = [e for e in waiting if e.real is not None and e.real.state is TicketState.FAILED]
        if not failed:
            assert not any(e.priority < priority for e in waiting), "one of a lower priority stays"
            self._refuse(stream, tag, "tickets wait")
            return True
        (other,) = failed
        self._check(other, waiting, stream.owner, priority)
        self._ends.fail(other, "RESOURCE_EXHAUSTED", words=("tickets wait",), retryable=True)
        return False

    def _before(self, spec: ModelSpec, owner: int, priority: int) -> int:
        """How many have their turns before one more ticket of an owner, at most."""
        waiting = self._state.waiting(spec)
        higher = sum(e.priority > priority for e in waiting)
        equal = Counter(e.stream.owner for e in waiting if e.priority == priority)
        owners = {e.stream.owner for e in self._state.queued(spec) if e.priority == priority}
        own = equal[owner]
        return higher + min(equal.total(), own + len(owners - {owner}) * (own + 1))

    def _check(self, other: ExpectedTicket, waiting: list[ExpectedTicket], owner: int, priority: int) -> None:
        """Whether the ticket that has made room is entitled to less: it has a lower priority, or an owner with more."""
        assert other.priority == min(e.priority for e in waiting)
        if other.priority == priority:
            equal = Counter(e.stream.owner for e in waiting if e.priority == priority)
            assert equal[other.stream.owner] >= 2 * (equal[owner] + 1)
        mine = [e for e in waiting if e.stream is other.stream and e.priority == other.priority]
        assert other.place == max(e.place for e in mine if e.place is not None), "it is not the newest"

    def _refuse(self, stream: ExpectedStream, tag: int, words: str) -> None:
        refused = frozenset({"RESOURCE_EXHAUSTED"})
        self._ends.expect(stream, ExpectedEvent("failed", tag, refused, (words,), retryable=True))
