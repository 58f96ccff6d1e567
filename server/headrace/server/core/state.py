"""The state of the core: tickets, the outputs they keep, and the streams they belong to.

These classes know each other, so they share a module, and only these parts of the core change them:

    Ticket.state     queued, running: `execution`; done, failed, cancelled, expired, closed: `completion`.
                     `transitions` has the table; `Ticket.move` refuses every other change.
    Ticket's inputs  given by `core` on admission, returned by `completion.return_inputs`, once.
    KeptOutput       `kept_outputs` alone: holders, waiters, tensor, charge and keep time.
    Stream           `core` on behalf of its client (opened, ordered, half_closed, its calls, admitted tickets);
                     `completion` on behalf of the server (outbox, turns, in_flight, ended).
    Stream.passed_over  `turns`, which parks a stream; `core` takes it back when the stream may start again.
    TicketSequence   `sequences` alone, and so Ticket.sequence.
    slots            `model_queue.ModelQueue`, asked by `execution` and, to stop a run, by `completion`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from typing import TypeAlias

from headrace.server.core.accounts import Shares
from headrace.server.core.calls import Call, Plan
from headrace.server.core.clients import Client
from headrace.server.core.counts import Span
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Run, Slices, Tensor, Variables
from headrace.server.core.events import Event, Fetched
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.quotas import COPIES, EVENT_BYTES, MIN_EVENTS, MessageCharge
from headrace.server.core.specs import Port
from headrace.server.core.transitions import TICKET_TRANSITIONS, TicketState, illegal
from headrace.wire.errors import InvalidArgument, ResourceExhausted, quote
from headrace.wire.frames import FRAME_BYTES, frame_items
from headrace.wire.limits import DEFAULT_MAX_MESSAGE_BYTES, MAX_CALL_BYTES, MAX_CALLS
from headrace.wire.tensors import Buffer

MIN_PROVEN_BYTES = 64 << 10
"""Outputs of this size are sent to clients that have not taken any yet, even while the memory for them is short."""


class KeptOutput:
    """A kept output or input, from the admission of its ticket until the last holder lets go.

    Its holders are its own ticket and every ticket that refers to it or fetches it. The tensor is there once the ticket
    is done. `charged` are the bytes that count against the quotas, at least from the start of the run to its end,
    because the runtime writes into the tensor even when no holder is left.
    """

    __slots__ = ("charged", "due", "entry", "holders", "port", "tensor", "ticket", "waiters")

    def __init__(self, ticket: Ticket, port: Port) -> None:
        self.ticket = ticket
        self.port = port
        self.holders = 1
        self.tensor: Tensor | None = None
        self.charged = 0
        self.waiters: dict[Ticket, None] = {}
        """Tickets that cannot go on before the tensor is there."""
        self.due: float | None = None
        self.entry: float | None = None

    def __str__(self) -> str:
        return f"{'input' if self.port.is_kept_input else 'output'} {quote(self.port.name)} of ticket {self.ticket.tag}"

    def __repr__(self) -> str:
        return f"<KeptOutput {self.port.name} of {self.ticket.tag}, {self.holders} holders, {self.charged} bytes>"


Key: TypeAlias = tuple[str, int | str, str | None]
"""A sequence by the name of its model, its id, and the name of the client whose id that is."""


class TicketSequence:
    """A sequence of tickets of one model, each of which begins with the variables that the one before has left.

    `line` are those in flight, in order: the first is queued or running, the others wait for it. `variables` is what
    the first one begins with.
    """

    __slots__ = ("_bound", "charged", "due", "entry", "key", "line", "model", "open", "variables")

    def __init__(self, key: Key, model: ModelQueue[Ticket]) -> None:
        self.key = key
        self.model = model
        self.line: deque[Ticket] = deque()
        self.variables: Variables | None = None
        self.open = True
        """Whether further tickets may join."""
        self.charged = 0
        self._bound: tuple[Call, Plan] | None = None
        self.due: float | None = None
        self.entry: float | None = None

    def wants_variables(self, ticket: Ticket) -> bool:
        """Whether a ticket comes after this one, or may come."""
        return self.open or self.line[-1] is not ticket

    def plan(self, call: Call) -> Plan | None:
        """The plan of the last call that was bound to the model of the sequence although it names no version."""
        return self._bound[1] if self._bound is not None and self._bound[0] is call else None

    def remember(self, call: Call, plan: Plan) -> Plan:
        self._bound = call, plan
        return plan

    def __repr__(self) -> str:
        return f"<TicketSequence {self.key} {len(self.line)} in flight, {self.charged} bytes>"


_NONE: dict[int, KeptOutput] = {}
"""`own` of every ticket that keeps nothing; never added to."""


class Ticket:
    """One admitted Infer or Fetch; to the engine it is a `Part` of a run. Times are the caller's seconds.

    Most tickets differ from the defaults in few attributes, so the defaults are attributes of the class.
    """

    priority = 0
    plan: Plan | None = None
    """None for a Fetch, and for an Infer with bad content."""
    model: ModelQueue[Ticket] | None = None
    inline: Sequence[Buffer] = ()
    charge: MessageCharge | None = None
    ready = 0.0
    started = 0.0
    sources: Sequence[KeptOutput] = ()
    """The kept outputs that it refers to or fetches, and holds."""
    missing = 0
    """How many sources are not there yet."""
    references: Sequence[Tensor] = ()
    """The tensors of `sources`, or the slices of them, while it runs."""
    source_slices: Sequence[Slices] = ()
    """Of an Infer: the slice of each of `sources`; empty if all of them are used whole."""
    slices: Slices = ()
    """Of a Fetch."""
    kept: tuple[KeptOutput, ...] = ()
    """In the order of plan.keep."""
    keep: tuple[int, ...] = ()
    """Positions in plan.keep of the outputs that still had a holder when it started."""
    rows: int = 0
    """Of each input along the first axis, where it may share a run; otherwise 0."""
    sequence: TicketSequence | None = None
    """Until its end."""
    span: Span | None = None
    """Its times, once it is done."""
    run: Run | None = None
    failed_in: ModelQueue[Ticket] | None = None
    """The variant in which its run has failed, if it is to run again in the model."""
    handed_off = False
    """The terminal event was handed to the transport: the ticket is no longer in flight."""
    due: float | None = None
    entry: float | None = None
    wait_is_bounded = False
    """It has not started, and `due` is when it has waited too long; `timeout_due` is when it has taken too long."""
    timeout_due: float | None = None
    wait_due: float | None = None
    """When it has waited too long for its client."""

    def __init__(self, stream: Stream, tag: int, now: float, *, infer: bool) -> None:
        self.state = TicketState.WAITING
        self.event: Event | None = None
        """The terminal event, while it waits for its turn in an ordered stream."""
        self.variables: Variables | None = None
        """What the variables of the model hold when its run begins, if it is not the first of a sequence."""
        self.own = _NONE
        """Those of `kept` that it still holds itself, by the index of the port."""
        self.stream = stream
        self.tag = tag
        self.infer = infer
        """True for an Infer, False for a Fetch."""
        self.arrived = now

    @property
    def finished(self) -> bool:
        return self.state >= TicketState.DONE

    @property
    def wants_variables(self) -> bool:
        return self.sequence is not None and self.sequence.wants_variables(self)

    def move(self, state: TicketState) -> None:
        if state not in TICKET_TRANSITIONS[self.state]:
            raise illegal(self.state, state)
        self.state = state

    def __repr__(self) -> str:
        return f"<Ticket {self.tag} {self.state.name.lower()}, {self.missing} missing, keeps {len(self.own)}>"


class Stream:
    """The tickets of one client, its calls, and the events that it has not taken yet. A unary call is one, too."""

    def __init__(
        self, window: int, shares: Shares, unsent_limit: int, owner: Hashable = None, *, unary: bool = False
    ) -> None:
        self.window = window
        self.owner = owner
        """Who shares turns with it, and its limits if it is a client that has some."""
        self.client = owner if isinstance(owner, Client) else None
        self.unary = unary
        self.single = False
        """It is one unary call, which ends with its one ticket: draining need not end it."""
        self.shares, self.keep = shares, shares.keep
        self.ordered = False
        self.max_message_bytes = DEFAULT_MAX_MESSAGE_BYTES
        self.opened = False
        """A command has been read, so that Open comes too late."""
        self.half_closed = False
        self.can_move = False
        """Its client can make again elsewhere what it keeps."""
        self.asked_to_move = False
        self.draining = False
        """New Infers are refused."""
        self.due: float | None = None
        """When it is next looked at because of its age. `Deadlines` sets it and `entry`."""
        self.entry: float | None = None
        self.ended = False
        """No further event will come: both sides have closed, it has drained, or its client has gone."""
        self.tickets: dict[int, Ticket] = {}
        """The live ones, by tag."""
        self.in_flight = 0
        self.infers: OrderedDict[Ticket, None] = OrderedDict()
        """Infers in flight, in submission order."""
        self.turns: deque[Ticket] = deque()
        """Of an ordered stream: Infers whose terminal event is not in the outbox yet, in submission order."""
        self.outbox: deque[Event] = deque()
        self.unsent_bytes = 0
        """Output bytes of events that are not flushed, including those that wait for their turn."""
        self._unsent_limit = unsent_limit
        self._unflushed_bytes = 0
        """Those of the frame that the transport is writing."""
        self.passed_over: dict[ModelQueue[Ticket], None] = {}
        """Queues in which its turn came while it was backpressured."""
        self._unsent_charge = 0
        """What of its share of unsent outputs it is charged. Other unary calls may have the same share."""
        self._proven_bytes = MIN_PROVEN_BYTES
        """The largest frame that its client has taken."""
        self._outbox_charge = 0
        """What the events in the outbox that have no ticket are charged."""
        self._frame_items = frame_items(window)
        self._calls: dict[int, DefinedCall] = {}
        self._call_bytes = 0

    def define(self, number: int, call: Call, nbytes: int) -> None:
        """Remember a call whose description has `nbytes` bytes. Raises InvalidArgument or ResourceExhausted.

        The number is not defined then, even if it was before: the client wants the new call under it, not the old one.
        """
        if number == 0:
            raise InvalidArgument("a call cannot be defined under number 0")
        share = self.shares.definitions
        old = self._calls.pop(number, None)
        if old is not None:
            self._call_bytes -= old.nbytes
            share.refund(old.charged)
        if len(self._calls) == MAX_CALLS:
            more = f"call {number} is one more than the {MAX_CALLS} calls a stream may define; reuse a number"
            raise ResourceExhausted(more, retryable=False)
        total = self._call_bytes + nbytes
        if total > MAX_CALL_BYTES:
            size = f"with call {number} the descriptions of this stream take {total} bytes"
            raise ResourceExhausted(f"{size}; the limit is {MAX_CALL_BYTES}", retryable=False)
        charged = nbytes + call.memory_bytes
        if not share.fits(charged):
            raise ResourceExhausted(f"call {number} takes {charged} bytes of memory; the server has too little left")
        share.charge(charged)
        self._calls[number] = DefinedCall(call, nbytes, charged)
        self._call_bytes = total

    def call(self, number: int) -> DefinedCall:
        """Raises InvalidArgument for a number that is not defined."""
        defined = self._calls.get(number)
        if defined is None:
            raise InvalidArgument(f"call {number} is not defined on this stream")
        return defined

    @property
    def may_read(self) -> bool:
        """Whether commands are read. A client that does not take its events blocks only itself.

        Nor does one that has more than a frame of events, while those of all streams fill their account.
        """
        events = len(self.outbox)
        return events < 2 * self.window and (events < MIN_EVENTS or not self.shares.tickets.exceeded)

    @property
    def backpressured(self) -> bool:
        """Whether so much is unsent that none of its tickets starts, except the oldest Infer in flight.

        That one never waits for another, and in an ordered stream everything unsent may be waiting for it. So much is
        more than the limit of a stream, or more than is left for all the others.
        """
        return self.unsent_bytes > self._unsent_limit or self.shares.unsent.exceeded

    @property
    def oldest_infer(self) -> Ticket | None:
        """The oldest Infer in flight."""
        return next(iter(self.infers), None)

    @property
    def keeps(self) -> bool:
        return any(ticket.own for ticket in self.tickets.values())

    def take(self) -> list[Event]:
        """The events of the next frame, at least one if there is any. Their bytes stay unsent until `flushed`."""
        events: list[Event] = []
        unflushed = fetched = 0
        size, limit, items = 0, min(FRAME_BYTES, self.max_message_bytes), self._frame_items
        while self.outbox and len(events) < items:
            event = self.outbox[0]
            size += event.nbytes + event.overhead
            if events and size > limit:
                break
            events.append(self.outbox.popleft())
            if event.nbytes:
                unflushed += event.nbytes
                if type(event) is Fetched:
                    fetched += event.nbytes
            elif not event.admitted:
                self.charge_event(-1)
        self._unflushed_bytes += unflushed
        if fetched:
            self._charge_unsent(COPIES * fetched)
        return events

    def charge_event(self, count: int = 1) -> None:
        """Note an event without a ticket that was put into the outbox, or with -1 one that was taken from it."""
        self._outbox_charge += count * EVENT_BYTES
        self.shares.tickets.charge(count * EVENT_BYTES)

    def add_unsent(self, event: Event) -> None:
        """A ticket has got its terminal event. A Fetched is charged when it is taken: a kept output is its memory."""
        nbytes = event.nbytes
        if nbytes:
            self.unsent_bytes += nbytes
            if type(event) is not Fetched:
                self._charge_unsent(COPIES * nbytes)

    def may_send(self, nbytes: int) -> bool:
        """Whether outputs of this size fit beside those that wait to be sent.

        The second half of the account is for clients that read: only what is not larger than a frame that the client
        has taken before gets into it, or quite small. It leaves as much again: a frame may also be taken by the buffers
        of a client that does not read, and a hundred of those must leave something for small outputs of others.
        """
        share, charge = self.shares.unsent, COPIES * nbytes
        if not share.fits(charge):
            return False
        return share.is_first_half(charge) or (nbytes <= self._proven_bytes and share.leaves_as_much(charge))

    def _charge_unsent(self, nbytes: int) -> None:
        self._unsent_charge += nbytes
        self.shares.unsent.charge(nbytes)

    def flushed(self) -> bool:
        """The transport has written the frame. True when that may end the backpressure of other streams too."""
        tight = self.shares.unsent.is_tight
        if not self.ended:
            self.unsent_bytes -= self._unflushed_bytes
        self._charge_unsent(-COPIES * self._unflushed_bytes)
        self._proven_bytes = max(self._proven_bytes, self._unflushed_bytes)
        self._unflushed_bytes = 0
        return tight

    def end(self) -> None:
        """Drop everything except the frame that the transport is writing, which stays charged until it is flushed."""
        self.ended = True
        self.outbox.clear()
        for ticket in self.turns:
            ticket.event = None
        self.turns.clear()
        self.shares.definitions.refund(sum(defined.charged for defined in self._calls.values()))
        self._calls.clear()
        self.passed_over.clear()
        self.shares.tickets.refund(self._outbox_charge)
        self._charge_unsent(COPIES * self._unflushed_bytes - self._unsent_charge)
        self.unsent_bytes = self._outbox_charge = 0

    def vanish(self) -> None:
        """The transport has let go of the stream, and of the frame that it was writing."""
        self.end()
        self._charge_unsent(-self._unsent_charge)
        self._unflushed_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<Stream {self.in_flight} of {self.window} in flight, {len(self.tickets)} live, "
            f"keeps {self.keep.used} bytes, {len(self.outbox)} events with {self.unsent_bytes} bytes unsent>"
        )
