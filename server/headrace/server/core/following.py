"""Runs that follow each other in a slot before the core is told of the first one's end.

In a chain the next ticket waits for nothing but the run that has just ended; where several of one stream are queued,
their order is known. To run the next one at once, and to do the books of all afterwards, comes to the same for
everybody, since nothing else happens in between. But it is quicker: what a run leaves in the processor's caches is what
the next one needs, and the books are done while they are there, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.ports import Tensor
from headrace.server.core.tickets import Ticket


def follower_of(ticket: Ticket) -> Ticket | None:
    """The only ticket that waits for this one, if it waits for nothing else and runs in the same slots."""
    follower: Ticket | None = None
    missing = 0
    for kept in ticket.kept:
        if kept.waiters:
            first, *others = kept.waiters
            if others or first is not (follower or first):
                return None
            follower = first
            missing += 1
    if follower is None or follower.model is not ticket.model or follower.missing != missing:
        return None
    # Other shapes are checked when they are known.
    return follower if follower.plan is not None and follower.plan.fixed else None


def hand_on(ticket: Ticket, tensors: Sequence[Tensor], follower: Ticket) -> None:
    """Give a follower what it waits for: `tensors` are those of `ticket.keep`."""
    if len(tensors) == len(follower.sources) == 1:
        follower.references = tensors
    else:
        arrived = dict(zip([ticket.kept[position] for position in ticket.keep], tensors, strict=True))
        follower.references = [kept.tensor or arrived[kept] for kept in follower.sources]
    _mark_wanted(follower)


def prepare(ticket: Ticket) -> None:
    """Give a ticket that is queued what it refers to."""
    ticket.references = [kept.tensor for kept in ticket.sources if kept.tensor is not None]
    _mark_wanted(ticket)


def _mark_wanted(ticket: Ticket) -> None:
    ticket.keep = tuple([position for position, kept in enumerate(ticket.kept) if kept.holders])
