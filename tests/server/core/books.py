"""What must be true of the core, worked out the slow way: nothing is counted or cached, everything is looked up again.

The oracle is told the same commands and times as the core. It answers with the events that must come, and can be asked
at any moment who holds what. It knows the rules of the stream and nothing of how the core keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from headrace.server.core.calls import Call, Reference
from headrace.server.core.engine_api import Run
from headrace.server.core.events import Event
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.core.state import Stream, Ticket
from tests.server.core.scenario import FakeTensor

MIN_CHARGE_BYTES = 1024
BIG = 60_000
"""Bytes that a message with the smallest limit does not hold; outputs are either much smaller or much larger."""


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


@dataclass(frozen=True)
class MessageCharge:
    nbytes: int


@dataclass(frozen=True)
class ExpectedEvent:
    """An event that must come: its kind, its tag, one of these codes, and a message with these words.

    Of `one_of` it must have one.
    """

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
    owned: bool = True
    promised: bool = False
    tensor: FakeTensor | None = None
    used: float = 0.0

    @property
    def static(self) -> int:
        return nbytes_of(self.port) or 0


@dataclass(eq=False)
class ExpectedTicket:
    """An admitted ticket."""

    stream: ExpectedStream
    tag: int
    number: int
    infer: bool
    priority: int = 0
    call: KnownCall | None = None
    deps: list[ExpectedOutput] = field(default_factory=list)
    outs: list[ExpectedOutput] = field(default_factory=list)
    slices: tuple[tuple[int, int], ...] = ()
    due: float | None = None
    charge: MessageCharge | None = None
    inline: Sequence[bytes] = ()
    end: str | None = None
    said: ExpectedEvent | None = None
    nbytes: int = 0
    handed: bool = False
    written: bool = False
    ready: int | None = None
    run: Run | None = None
    keeps: list[int] = field(default_factory=list)
    """Which of `outs` its run was to keep."""
    alone: bool = False
    """A batch with it has failed."""
    came: float = 0.0
    """When it was queued."""
    patient: bool = False
    """It may wait for others, as far as it can be told from what it was when it was queued."""
    held: bool = False
    """It might have started at the last decision, and was left to wait for others."""
    released: bool = False
    """It has been quiet since, so that it waits no longer."""
    real: Ticket | None = None

    def __repr__(self) -> str:
        return f"<{self.tag} of stream {id(self.stream):x}>"

    @property
    def live(self) -> bool:
        return not self.handed or any(out.owned for out in self.outs)

    @property
    def holds(self) -> bool:
        """Whether it needs its sources: an Infer until the runtime lets go, a Fetch until it is sent."""
        if self.infer:
            return self.needs_input
        return self.end is None or (self.end == "DONE" and not self.handed)

    @property
    def needs_input(self) -> bool:
        return self.end is None or self.run is not None

    @property
    def rows(self) -> int:
        """Those that it brings to a batch, once its sources are there; 0 when it shares no run."""
        if self.call is None or self.call.spec.batch == 1 or self.alone:
            return 0
        sizes = {each.shape[0] for each in self.call.call.inputs if not isinstance(each, Reference)}
        sizes |= {out.tensor.shape[0] for out in self.deps if out.tensor is not None}
        return max(sizes) if len(sizes) == 1 and max(sizes) <= self.call.spec.batch else 0

    @property
    def queued(self) -> bool:
        return self.ready is not None and self.end is None and self.run is None


@dataclass(eq=False)
class ExpectedStream:
    """A stream."""

    real: Stream
    window: int
    unary: bool
    max_message: int = 4 << 20
    ordered: bool = False
    begun: bool = False
    half_closed: bool = False
    draining: bool = False
    ended: bool = False
    calls: dict[int, KnownCall] = field(default_factory=dict)
    tickets: list[ExpectedTicket] = field(default_factory=list)
    turns: list[ExpectedTicket] = field(default_factory=list)
    expected: list[ExpectedEvent] = field(default_factory=list)
    """Events that must have come since the last look."""
    pending: list[Event] = field(default_factory=list)
    """Events that have come and were not taken."""
    taken: list[tuple[Event, ExpectedTicket | None]] = field(default_factory=list)
    """Events that were taken and not flushed, with the tickets that they end."""
    is_news: bool = False
    """It has something to say, or has ended, and no decision has told of it."""

    @property
    def in_flight(self) -> int:
        return sum(not ticket.handed for ticket in self.tickets)

    @property
    def unsent(self) -> int:
        return 0 if self.ended else sum(ticket.nbytes for ticket in self.tickets if not ticket.written)

    @property
    def infers(self) -> list[ExpectedTicket]:
        """In flight, the oldest first."""
        return [ticket for ticket in self.tickets if ticket.infer and not ticket.handed]

    @property
    def outputs(self) -> Iterator[ExpectedOutput]:
        seen: set[int] = set()
        for ticket in self.tickets:
            for out in (*ticket.outs, *ticket.deps):
                if id(out) not in seen:
                    seen.add(id(out))
                    yield out

    def ended_by(self, event: Event) -> ExpectedTicket | None:
        """The ticket whose terminal event this is, while it is in flight."""
        return next((e for e in self.tickets if event.admitted and e.tag == event.tag and not e.handed), None)

    def live(self, tag: int) -> ExpectedTicket | None:
        return next((ticket for ticket in self.tickets if ticket.tag == tag and ticket.live), None)

    def find(self, tag: int, name: str) -> ExpectedOutput | None:
        ticket = self.live(tag)
        if ticket is None or ticket.end not in (None, "DONE"):
            return None
        return next((out for out in ticket.outs if out.owned and name in out.port.names), None)

    def holders(self, out: ExpectedOutput) -> list[ExpectedTicket]:
        return [ticket for ticket in self.tickets if ticket.holds and out in ticket.deps]

    def wanted(self, out: ExpectedOutput) -> bool:
        return out.owned or bool(self.holders(out))

    def charge(self, out: ExpectedOutput) -> int:
        """What an output costs now."""
        if out.ticket.run is not None:
            return max(MIN_CHARGE_BYTES, out.static) if out.promised else 0
        return max(MIN_CHARGE_BYTES, out.tensor.nbytes) if out.tensor is not None and self.wanted(out) else 0

    @property
    def kept(self) -> int:
        return sum(self.charge(out) for out in self.outputs)

    def prune(self) -> None:
        """Forget the tickets that nothing depends on any more."""
        done = self.ended
        self.tickets = [e for e in self.tickets if e.live or e.run is not None or not (e.written or done)]


class Books:
    """What is held at this moment, on all streams."""

    def __init__(self, limits: Limits, specs: Sequence[ModelSpec]) -> None:
        self.limits = limits
        self.specs = specs
        self.streams: list[ExpectedStream] = []
        self.draining = False
        self.grace_ends: float | None = None
        self.stops: list[Run] = []
        self.restoring: dict[int, set[int]] = {id(spec): set() for spec in specs}
        """For each model its slots that were spoiled and not restored yet."""
        self.now = 0.0

    @property
    def tickets(self) -> list[ExpectedTicket]:
        return [ticket for stream in self.streams for ticket in stream.tickets]

    @property
    def kept(self) -> int:
        return sum(stream.kept for stream in self.streams)

    @property
    def charge(self) -> int:
        return sum(charge.nbytes for charge in self.cargos())

    def cargos(self) -> Iterable[MessageCharge]:
        held = [e.charge for e in self.tickets if e.charge is not None and e.needs_input]
        return {id(charge): charge for charge in held}.values()

    def runs(self, spec: ModelSpec | None = None) -> list[Run]:
        """The runs that occupy slots, those included whose tickets have ended before: of a model, or all."""
        runs = {id(e.run): e.run for e in self.tickets if e.run is not None}.values()
        return [run for run in runs if spec is None or run.spec is spec]

    def free_slots(self, spec: ModelSpec) -> int:
        return spec.slots - len(self.runs(spec)) - len(self.restoring[id(spec)])

    def tickets_of(self, run: Run) -> list[ExpectedTicket]:
        """In the order of the run's parts."""
        return [next(e for e in self.tickets if e.real is part) for part in run.parts]

    def queued(self, spec: ModelSpec) -> list[ExpectedTicket]:
        return [e for e in self.tickets if e.queued and e.call is not None and e.call.spec is spec]

    def dues(self) -> list[float]:
        dues = [e.due for e in self.tickets if e.due is not None and e.end is None]
        dues += [out.used + self.limits.keep_seconds for stream in self.streams for out in self.resting(stream)]
        return dues if self.grace_ends is None else [*dues, self.grace_ends]

    def resting(self, stream: ExpectedStream) -> list[ExpectedOutput]:
        """Kept outputs that nobody uses: their keep time runs."""
        return [out for out in stream.outputs if out.owned and out.tensor is not None and not stream.holders(out)]


def nbytes_of(port: Port) -> int | None:
    """Bytes of a static f32 or i64 port."""
    assert port.shape is not None
    count = 4 if port.datatype.name == "FP32" else 8
    for each in port.shape:
        if each.min != each.max:
            return None
        count *= each.min
    return count


def meets(one: Dimension, other: Dimension) -> bool:
    """Whether a size fits both."""
    top = min(each.max if each.max >= 0 else 1 << 62 for each in (one, other))
    return max(one.min, other.min) <= top


def compatible(source: Port, target: Port) -> bool:
    assert source.shape is not None
    assert target.shape is not None
    same = source.datatype is target.datatype and len(source.shape) == len(target.shape)
    return same and all(meets(one, other) for one, other in zip(source.shape, target.shape, strict=True))


def fits(shape: Sequence[int], port: Port) -> bool:
    assert port.shape is not None
    sizes = zip(shape, port.shape, strict=True)
    return all(each.min <= size and (each.max < 0 or size <= each.max) for size, each in sizes)
