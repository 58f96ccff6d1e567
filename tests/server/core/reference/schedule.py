"""The turns that explain why just these runs start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.server.core.specs import ModelSpec
from tests.server.core.reference.expected import ExpectedTicket
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns
from tests.server.core.reference.waits import HasFailed, Waits

Tickets = Sequence[ExpectedTicket]


class Schedule:
    def __init__(self, state: ExpectedState, turns: Turns, waits: Waits) -> None:
        self._state = state
        self._turns = turns
        self._waits = waits

    def order(
        self, spec: ModelSpec, runs: Sequence[Tickets], has_failed: HasFailed, *, only_these: bool
    ) -> list[ExpectedTicket]:
        """The tickets of a model that must have had their turns so that just these runs start, in order.

        They include tickets that failed in their turn because the quota was used up. `only_these`: nothing was
        decided about any other ticket.
        """
        shares = self._state.shares_processor(spec)
        # Once tickets wait for the processor, their delay is over.
        had_turn = shares and (bool(runs) or any(map(has_failed, self._state.queued(spec))))
        if self._waits.delays(spec) and not had_turn:
            assert not runs, f"{runs} started, and must wait for others"
            return []
        if not only_these and self._waits.holds(spec, bool(runs), has_failed):
            return []
        free = self._state.free_slots(spec)
        found = self._explain(spec, runs, [], free, has_failed, only_these=only_these or shares)
        assert found is not None, f"{runs} started, {free} slots were free, queued were {self._state.queued(spec)}"
        return found

    def _explain(
        self,
        spec: ModelSpec,
        runs: Sequence[Tickets],
        before: Tickets,
        free: int,
        has_failed: HasFailed,
        *,
        only_these: bool,
    ) -> list[ExpectedTicket] | None:
        """The tickets that had their turns after those in `before`; None when the rules do not lead to these runs.

        `only_these`: others may have had no turn.
        """
        turns = self._turns.next(spec, before)
        if not free or not turns:
            return None if runs else []
        if only_these and not runs and not any(map(has_failed, turns)):
            return []
        queued = len(self._state.queued(spec)) - len(before)
        max_rows = spec.batch if spec.direct else min(spec.batch, (queued + free - 1) // free)
        for batch in self._batches(spec, max_rows, before, []):
            parts = [e for e in batch if not has_failed(e)]
            if parts and (not runs or parts != [*runs[0]]):
                continue
            rest = runs[bool(parts) :]
            later = self._explain(spec, rest, [*before, *batch], free - bool(parts), has_failed, only_these=only_these)
            if later is not None:
                return [*batch, *later]
        return None

    def _batches(
        self, spec: ModelSpec, max_rows: int, before: Tickets, batch: list[ExpectedTicket]
    ) -> Iterator[list[ExpectedTicket]]:
        """Every batch that may come next and begins like this: of tickets that came together, each may be first."""
        turns = self._turns.next(spec, [*before, *batch], batch[0].priority if batch else None)
        fitting = [e for e in turns if not batch or _fits(e, batch, max_rows)]
        if len(fitting) < len(turns) or not turns:
            yield batch
        for ticket in fitting:
            yield from self._batches(spec, max_rows, before, [*batch, ticket])


def _fits(ticket: ExpectedTicket, batch: Tickets, max_rows: int) -> bool:
    """Whether a ticket may join a batch."""
    alone = not ticket.rows or not batch[0].rows
    return not alone and sum(e.rows for e in batch) + ticket.rows <= max_rows
