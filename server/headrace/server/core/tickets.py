"""Tickets and the outputs that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.server.core.tables import TICKET_MOVES, TicketState, moved

if TYPE_CHECKING:
    from headrace.server.core.calls import Plan
    from headrace.server.core.events import Event
    from headrace.server.core.ports import Run, Tensor
    from headrace.server.core.quotas import Cargo
    from headrace.server.core.scheduler import Model
    from headrace.server.core.specs import Port
    from headrace.server.core.streams import Stream
    from headrace.wire.tensors import Buffer


class Kept:
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


class Ticket:
    """One admitted Infer or Fetch. Times are the caller's seconds."""

    __slots__ = (
        "arrived",
        "cargo",
        "due",
        "entry",
        "event",
        "handed",
        "infer",
        "inline",
        "kept",
        "missing",
        "model",
        "own",
        "plan",
        "priority",
        "ready",
        "run",
        "slices",
        "sources",
        "started",
        "state",
        "stream",
        "tag",
    )

    def __init__(self, stream: Stream, tag: int, now: float, *, infer: bool) -> None:
        self.stream = stream
        self.tag = tag
        self.infer = infer
        """An Infer; a Fetch otherwise."""
        self.state = TicketState.WAITING
        self.arrived = self.ready = self.started = now
        self.priority = 0
        self.plan: Plan | None = None
        """None for a Fetch, and for an Infer whose content was bad."""
        self.model: Model | None = None
        self.inline: Sequence[Buffer] = ()
        self.cargo: Cargo | None = None
        self.sources: list[Kept] = []
        """What it refers to or fetches, and holds."""
        self.missing = 0
        """How many sources are not there yet."""
        self.slices: tuple[tuple[int, int], ...] = ()
        self.kept: tuple[Kept, ...] = ()
        """In the order of plan.keep."""
        self.own: dict[int, Kept] = {}
        """Those of `kept` that it still holds itself, by the index of the port."""
        self.run: Run | None = None
        self.event: Event | None = None
        """The terminal event, as long as it waits for its turn in an ordered stream."""
        self.handed = False
        """The terminal event was handed to the transport: no longer in flight."""
        self.due: float | None = None
        self.entry: float | None = None

    @property
    def finished(self) -> bool:
        return self.state >= TicketState.DONE

    def move(self, state: TicketState) -> None:
        self.state = moved(TICKET_MOVES, self.state, state)

    def __repr__(self) -> str:
        return f"<Ticket {self.tag} {self.state.name.lower()}, {self.missing} missing, keeps {len(self.own)}>"
