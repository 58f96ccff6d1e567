"""The two lives that the server knows, as tables. Every change of state asks them.

A ticket (one admitted Infer or Fetch):

    waiting ──► queued ◄─► running ──► done ──────► closed
       │          │           │
       │          │           ├──────► failed ────► closed
       ├──────────┴───────────┼──────► cancelled ─► closed
       │                      └──────► expired ───► closed
       └─► done (a Fetch whose source is there), failed (bad content, a source that failed)

*waiting*: a source is not done, or content is still being checked. *queued*: everything is there but a slot; again when
the batch that it ran in has failed, so that it runs alone. Exactly one of done, failed, cancelled, expired ends it, and
no end leads to another end. *closed*: its terminal event was handed to the transport and nothing is kept any more, so
its tag is free.

A slot (one InferRequest): free ──► running ──► free, or running ──► stopping ──► free when all tickets of the run ended
first: the runtime still uses the slot and the tensors that were lent to it until it lets go. Instead of free
it may be restoring, and then free: a run that failed has left the compiled model below the slot in a state that would
make later runs wrong, so nobody gets the slot before the engine has restored it.
"""

from __future__ import annotations

from enum import IntEnum


class TicketState(IntEnum):
    WAITING = 0
    QUEUED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5
    EXPIRED = 6
    CLOSED = 7
    # That of Enum is not made for tables that are looked at for every ticket.
    __hash__ = int.__hash__


class SlotState(IntEnum):
    FREE = 0
    RUNNING = 1
    STOPPING = 2
    RESTORING = 3
    __hash__ = int.__hash__


_T = TicketState
TICKET_TRANSITIONS: dict[TicketState, frozenset[TicketState]] = {
    _T.WAITING: frozenset({_T.QUEUED, _T.DONE, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.QUEUED: frozenset({_T.RUNNING, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.RUNNING: frozenset({_T.QUEUED, _T.DONE, _T.FAILED, _T.CANCELLED, _T.EXPIRED}),
    _T.DONE: frozenset({_T.CLOSED}),
    _T.FAILED: frozenset({_T.CLOSED}),
    _T.CANCELLED: frozenset({_T.CLOSED}),
    _T.EXPIRED: frozenset({_T.CLOSED}),
    _T.CLOSED: frozenset(),
}
SLOT_TRANSITIONS: dict[SlotState, frozenset[SlotState]] = {
    SlotState.FREE: frozenset({SlotState.RUNNING, SlotState.RESTORING}),
    SlotState.RUNNING: frozenset({SlotState.FREE, SlotState.STOPPING, SlotState.RESTORING}),
    SlotState.STOPPING: frozenset({SlotState.FREE, SlotState.RESTORING}),
    SlotState.RESTORING: frozenset({SlotState.FREE}),
}


def illegal(old: TicketState | SlotState, new: TicketState | SlotState) -> AssertionError:
    """A move that the table does not have is a bug of the core."""
    return AssertionError(f"{old.name} does not lead to {new.name}")
