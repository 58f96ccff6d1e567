"""Which tickets may wait for others, to join them in a run, and what each brings to it."""

from __future__ import annotations

from headrace.server.core.batching import URGENT_SECONDS
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.state import Ticket


def can_wait(ticket: Ticket, model: ModelQueue[Ticket], now: float) -> bool:
    """Whether a ticket may be held back for others: it arrived without a frame, can share a run, and is not urgent."""
    single = model.spec.direct and ticket.stream.unary and not ticket.priority
    return single and ticket.rows > 0 and (ticket.due is None or ticket.due - now >= URGENT_SECONDS)


def rows_of(ticket: Ticket) -> int:
    """The rows that a ticket whose sources are there brings to a batch; 0 when its inputs differ in them."""
    assert ticket.plan is not None
    rows = ticket.plan.rows
    for position, kept in enumerate(ticket.sources):
        assert kept.tensor is not None
        cut = ticket.source_slices[position] if ticket.source_slices else ()
        first = cut[0][1] - cut[0][0] if cut else kept.tensor.shape[0]
        rows = first if rows in (None, first) else 0
    return rows or 0
