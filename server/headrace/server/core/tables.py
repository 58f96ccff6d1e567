"""The two lives that the server knows, as tables. Every change of state goes through `moved`.

A ticket (one admitted Infer or Fetch):

    waiting ──► queued ──► running ──► done ──────► closed
       │          │           │
       │          │           ├──────► failed ────► closed
       ├──────────┴───────────┼──────► cancelled ─► closed
       │                      └──────► expired ───► closed
       └─► done (a Fetch whose source is there), failed (bad content, a source that failed)

*waiting*: a source is not done, or content is still being checked. *queued*: everything is there but a slot. Exactly
one of done, failed, cancelled, expired ends it, and no end leads to another end. *closed*: its terminal event was
handed to the transport and nothing is kept any more, so its tag is free.

A slot (one InferRequest): free ──► running ──► free, or running ──► stopping ──► free when the ticket ended first: the
runtime still uses the slot and the tensors that were lent to it until it lets go.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar


class TicketState(IntEnum):
    WAITING = 0
    QUEUED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5
    EXPIRED = 6
    CLOSED = 7


class SlotState(IntEnum):
    FREE = 0
    RUNNING = 1
    STOPPING = 2


_T = TicketState
TICKET_MOVES: dict[TicketState, frozenset[TicketState]] = {
    _T.WAITING: frozenset({_T.QUEUED, _T.DONE, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.QUEUED: frozenset({_T.RUNNING, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.RUNNING: frozenset({_T.DONE, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.DONE: frozenset({_T.CLOSED}),
    _T.FAILED: frozenset({_T.CLOSED}),
    _T.CANCELLED: frozenset({_T.CLOSED}),
    _T.EXPIRED: frozenset({_T.CLOSED}),
    _T.CLOSED: frozenset(),
}
SLOT_MOVES: dict[SlotState, frozenset[SlotState]] = {
    SlotState.FREE: frozenset({SlotState.RUNNING}),
    SlotState.RUNNING: frozenset({SlotState.FREE, SlotState.STOPPING}),
    SlotState.STOPPING: frozenset({SlotState.FREE}),
}

S = TypeVar("S", TicketState, SlotState)


def moved(moves: dict[S, frozenset[S]], old: S, new: S) -> S:
    """The new state. A move that the table does not have is a bug of the core, so AssertionError."""
    if new not in moves[old]:
        raise AssertionError(f"{old.name} does not lead to {new.name}")
    return new
