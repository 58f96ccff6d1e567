"""Tickets, outputs, streams and events as they must be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from headrace.server.core.calls import Call, Reference
from headrace.server.core.engine_api import Run, Slices
from headrace.server.core.events import Event
from headrace.server.core.specs import ModelSpec, Port
from headrace.server.core.state import Stream, Ticket
from headrace.wire.limits import DEFAULT_MAX_MESSAGE_BYTES
from tests.server.core.model_specs import FakeTensor
from tests.server.core.reference.shapes import part_of, static_bytes

MIN_CHARGE_BYTES = 1024


@dataclass(frozen=True)
class KnownCall:
    """A call, and what is known of it beforehand: the code that its use fails with, or what an Infer has to bring."""

    call: Call
    spec: ModelSpec
    wrong: str | None
    sizes: tuple[int, ...]
    references: tuple[tuple[Port, str, bool], ...]
    outputs: tuple[Port, ...]
    keep: tuple[Port, ...]
    keep_inputs: tuple[Port, ...] = ()

    def kept_bytes(self, position: int) -> int:
        """What is known beforehand of the bytes that it keeps: of its kept outputs, and then of its kept inputs."""
        if position < len(self.keep):
            return static_bytes(self.keep[position]) or 0
        port = self.keep_inputs[position - len(self.keep)]
        for each in self.call.inputs:
            if each.name in port.names and not isinstance(each, Reference):
                return 4 * math.prod(each.shape)
        return static_bytes(port) or 0


@dataclass(frozen=True)
class ExpectedCharge:
    """The input bytes of one message."""

    nbytes: int


@dataclass(frozen=True)
class ExpectedEvent:
    """An event that must come: its kind, its tag, one of `codes`, a message with all `words` and one of `one_of`."""

    kind: str
    tag: int
    codes: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    one_of: frozenset[str] = frozenset()
    retryable: bool | None = None
    kept: tuple[str, ...] = ()
    of_infer: bool = False


@dataclass(eq=False)
class ExpectedOutput:
    ticket: ExpectedTicket
    port: Port
    is_input: bool
    static_bytes: int
    owned: bool = True
    """Its own ticket still holds it."""
    promised: bool = False
    """The run of its ticket was told to keep it."""
    tensor: FakeTensor | None = None
    last_used: float = 0.0

    def __str__(self) -> str:
        return f"{'input' if self.is_input else 'output'} {self.port.name!r} of ticket {self.ticket.tag}"


@dataclass(eq=False)
class ExpectedTicket:
    """An admitted ticket."""

    stream: ExpectedStream
    tag: int
    number: int
    """Tickets are numbered in the order of their admission, over all streams."""
    infer: bool
    priority: int = 0
    call: KnownCall | None = None
    sources: list[ExpectedOutput] = field(default_factory=list)
    parts: list[Slices] = field(default_factory=list)
    """Of an Infer, the part of each of its sources."""
    outputs: list[ExpectedOutput] = field(default_factory=list)
    """The kept ones, and then the kept inputs."""
    slices: Slices = ()
    """Of a Fetch."""
    due: float | None = None
    waits_until: float | None = None
    """When it has waited for a slot as long as it may, while it is queued for the first time."""
    charge: ExpectedCharge | None = None
    inline: Sequence[bytes] = ()
    end: str | None = None
    event: ExpectedEvent | None = None
    nbytes: int = 0
    handed_off: bool = False
    flushed: bool = False
    place: int | None = None
    """Its place in the queue: the smaller goes first. None until all its sources are there."""
    run: Run | None = None
    runs_alone: bool = False
    failed_in: ModelSpec | None = None
    """A variant in which it has failed, before it was to run in the model."""
    """A batch with it has failed."""
    kept_positions: list[int] = field(default_factory=list)
    """Which of `outputs` its run was told to keep."""
    queued_at: float = 0.0
    can_wait: bool = False
    """It may wait for others, as far as this was known when it was queued."""
    held: bool = False
    """It could have started at the last decision, and was held back for others."""
    released: bool = False
    """The event loop has been idle since, so it waits no longer."""
    real: Ticket | None = None

    def __repr__(self) -> str:
        return f"<{self.tag} of stream {id(self.stream):x}>"

    @property
    def ends_at(self) -> float | None:
        """When time alone ends it."""
        return min((each for each in (self.due, self.waits_until) if each is not None), default=None)

    @property
    def live(self) -> bool:
        return not self.handed_off or any(output.owned for output in self.outputs)

    @property
    def holds_sources(self) -> bool:
        """An Infer holds them until the runtime lets go, a Fetch until it is sent."""
        if self.infer:
            return self.needs_input
        return self.end is None or (self.end == "DONE" and not self.handed_off)

    @property
    def needs_input(self) -> bool:
        return self.end is None or self.run is not None

    @property
    def rows(self) -> int:
        """Rows that it brings to a batch once its sources are there; 0 when it cannot share a run."""
        if self.call is None or self.call.spec.batch == 1 or self.runs_alone:
            return 0
        sizes = {each.shape[0] for each in self.call.call.inputs if not isinstance(each, Reference)}
        sizes |= {
            part_of(source.tensor.shape, part)[0]
            for source, part in zip(self.sources, self.parts, strict=True)
            if source.tensor is not None
        }
        return max(sizes) if len(sizes) == 1 and max(sizes) <= self.call.spec.batch else 0

    @property
    def queued(self) -> bool:
        return self.place is not None and self.end is None and self.run is None


@dataclass(eq=False)
class ExpectedStream:
    real: Stream
    window: int
    unary: bool
    owner: int
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    ordered: bool = False
    opened: bool = False
    half_closed: bool = False
    draining: bool = False
    ended: bool = False
    vanished: bool = False
    """Its client has gone, or the transport has let go of it."""
    single: bool = False
    """It is one unary call."""
    proven: int = 0
    """The bytes of the largest frame that its client has taken."""
    calls: dict[int, KnownCall] = field(default_factory=dict)
    definitions: dict[int, int] = field(default_factory=dict)
    """What each call is charged."""
    tickets: list[ExpectedTicket] = field(default_factory=list)
    turns: list[ExpectedTicket] = field(default_factory=list)
    """Of an ordered stream: Infers whose terminal event has not come yet."""
    expected: list[ExpectedEvent] = field(default_factory=list)
    """Events that must have come since the last comparison."""
    outbox: list[Event] = field(default_factory=list)
    """Events that have come and were not taken."""
    taken: list[tuple[Event, ExpectedTicket | None]] = field(default_factory=list)
    """Events that were taken and not flushed, with the tickets that they end."""
    changed: bool = False
    """It has a new event, or has ended, and no decision has said so."""

    @property
    def in_flight(self) -> int:
        return sum(not ticket.handed_off for ticket in self.tickets)

    @property
    def unsent_bytes(self) -> int:
        return 0 if self.ended else sum(ticket.nbytes for ticket in self.tickets if not ticket.flushed)

    @property
    def infers(self) -> list[ExpectedTicket]:
        """Infers in flight, the oldest first."""
        return [ticket for ticket in self.tickets if ticket.infer and not ticket.handed_off]

    @property
    def outputs(self) -> Iterator[ExpectedOutput]:
        """The kept outputs of all tickets that are remembered."""
        seen: set[int] = set()
        for ticket in self.tickets:
            for output in (*ticket.outputs, *ticket.sources):
                if id(output) not in seen:
                    seen.add(id(output))
                    yield output

    @property
    def kept_bytes(self) -> int:
        return sum(self.charge_of(output) for output in self.outputs)

    def ended_by(self, event: Event) -> ExpectedTicket | None:
        """The ticket whose terminal event this is, while it is in flight."""
        return next((e for e in self.tickets if event.admitted and e.tag == event.tag and not e.handed_off), None)

    def live(self, tag: int) -> ExpectedTicket | None:
        return next((ticket for ticket in self.tickets if ticket.tag == tag and ticket.live), None)

    def find(self, tag: int, name: str) -> ExpectedOutput | None:
        """The output that ticket `tag` keeps under a name, if a new ticket may still refer to it."""
        ticket = self.live(tag)
        if ticket is None or ticket.end not in (None, "DONE"):
            return None
        return next((output for output in ticket.outputs if output.owned and name in output.port.names), None)

    def users(self, output: ExpectedOutput) -> list[ExpectedTicket]:
        """The tickets that refer to an output or fetch it."""
        return [ticket for ticket in self.tickets if ticket.holds_sources and output in ticket.sources]

    def is_held(self, output: ExpectedOutput) -> bool:
        return output.owned or bool(self.users(output))

    def charge_of(self, output: ExpectedOutput) -> int:
        """The bytes that an output counts against the quotas now."""
        if output.ticket.run is not None:
            return max(MIN_CHARGE_BYTES, output.static_bytes) if output.promised else 0
        if output.tensor is None or not self.is_held(output):
            return 0
        return max(MIN_CHARGE_BYTES, output.tensor.nbytes)

    def unused_outputs(self) -> list[ExpectedOutput]:
        """Outputs that only their own tickets hold: their keep time runs."""
        return [each for each in self.outputs if each.owned and each.tensor is not None and not self.users(each)]

    def prune(self) -> None:
        """Forget the tickets on which nothing depends any more."""
        self.tickets = [e for e in self.tickets if e.live or e.run is not None or not (e.flushed or self.ended)]
