"""The states of tickets and slots, and the transitions between them, as tables that every change of state checks.

A ticket:

    waiting ──► queued ◄─► running ──► done ──────► closed
       │          │           │
       │          │           ├──────► failed ────► closed
       ├──────────┴───────────┼──────► cancelled ─► closed
       │                      └──────► expired ───► closed
       └─► done (a Fetch whose source is there), failed (bad content, a source that failed)

*waiting*: a source is not done, or the content is being checked. *queued*: it has all it needs but a slot; again after
its batch has failed, to run alone. Exactly one of done, failed, cancelled and expired ends it, and no end leads to
another. *closed*: its terminal event was handed to the transport and it keeps nothing any more, so its tag is free.

A slot (one InferRequest):

    free ──► running ──► free
               ├──► stopping ──► free
               └──► restoring ──► free

*stopping*: all tickets of the run have ended first, but the runtime uses the slot and the tensors lent to it until it
lets go. *restoring*: a failed run has left the compiled model below the slot in a state that would make later runs
wrong, so the slot is not used before the engine has restored it; this may also follow free and stopping.
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
    # The hash of Enum is a Python function: too slow for tables that every ticket consults.
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
    """A transition that the table does not have is a bug in the core."""
    return AssertionError(f"{old.name} does not lead to {new.name}")
