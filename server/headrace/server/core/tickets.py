"""Tickets and the outputs that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.server.core.transitions import TICKET_TRANSITIONS, TicketState, illegal

if TYPE_CHECKING:
    from headrace.server.core.calls import Plan
    from headrace.server.core.engine_api import Run, Tensor
    from headrace.server.core.events import Event
    from headrace.server.core.model_queue import ModelQueue
    from headrace.server.core.quotas import MessageCharge
    from headrace.server.core.specs import Port
    from headrace.server.core.streams import Stream
    from headrace.wire.tensors import Buffer


class KeptOutput:
    """A kept output, from the admission of its ticket until nobody holds it.

    Its holders are its own ticket and every ticket that refers to it or fetches it. The tensor is there once the ticket
    is done. `charged` are the bytes that count against the quotas: from the start of the run to its end at least,
    because the runtime writes into the tensor even when nobody wants it any more.
    """

    __slots__ = ("charged", "due", "entry", "holders", "port", "tensor", "ticket", "waiters")

    def __init__(self, ticket: Ticket, port: Port) -> None:
        self.ticket = ticket
        self.port = port
        self.holders = 1
        self.tensor: Tensor | None = None
        self.charged = 0
        self.waiters: dict[Ticket, None] = {}
        self.due: float | None = None
        self.entry: float | None = None

    def __repr__(self) -> str:
        return f"<Kept {self.port.name} of {self.ticket.tag}, {self.holders} holders, {self.charged} bytes>"


_NONE: dict[int, KeptOutput] = {}
"""Of all tickets that keep nothing: never added to."""


class Ticket:
    """One admitted Infer or Fetch; to a run it is a `ports.Part`. Times are the caller's seconds.

    There are tens of thousands a second, so what most of them do not need stands at the class.
    """

    state = TicketState.WAITING
    priority = 0
    plan: Plan | None = None
    """None for a Fetch, and for an Infer whose content was bad."""
    model: ModelQueue | None = None
    inline: Sequence[Buffer] = ()
    charge: MessageCharge | None = None
    ready = started = 0.0
    sources: Sequence[KeptOutput] = ()
    """What it refers to or fetches, and holds."""
    missing = 0
    """How many sources are not there yet."""
    references: Sequence[Tensor] = ()
    """The tensors of `sources`, while it runs."""
    slices: tuple[tuple[int, int], ...] = ()
    kept: tuple[KeptOutput, ...] = ()
    """In the order of plan.keep."""
    own: dict[int, KeptOutput] = _NONE
    """Those of `kept` that it still holds itself, by the index of the port."""
    keep: tuple[int, ...] = ()
    """Positions in plan.keep of what was still wanted when it started."""
    rows: int = 0
    """Along the first axis of each input, where it may share a run; 0 where it may not."""
    run: Run | None = None
    event: Event | None = None
    """The terminal event, as long as it waits for its turn in an ordered stream."""
    handed = False
    """The terminal event was handed to the transport: no longer in flight."""
    due: float | None = None
    entry: float | None = None

    def __init__(self, stream: Stream, tag: int, now: float, *, infer: bool) -> None:
        self.stream = stream
        self.tag = tag
        self.infer = infer
        """An Infer; a Fetch otherwise."""
        self.arrived = now

    @property
    def finished(self) -> bool:
        return self.state >= TicketState.DONE

    def move(self, state: TicketState) -> None:
        if state not in TICKET_TRANSITIONS[self.state]:
            raise illegal(self.state, state)
        self.state = state

    def __repr__(self) -> str:
        return f"<Ticket {self.tag} {self.state.name.lower()}, {self.missing} missing, keeps {len(self.own)}>"
