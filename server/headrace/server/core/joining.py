"""Which tickets may wait for others, to join them in a run."""

from __future__ import annotations

from headrace.server.core.batching import URGENT_SECONDS
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.state import Ticket


def can_wait(ticket: Ticket, model: ModelQueue[Ticket], now: float) -> bool:
    """Whether a ticket may be held back for others: it arrived without a frame, can share a run, and is not urgent."""
    single = model.spec.direct and ticket.stream.unary and not ticket.priority
    return single and ticket.rows > 0 and (ticket.due is None or ticket.due - now >= URGENT_SECONDS)
