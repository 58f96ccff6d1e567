"""A stream: whoever owns tickets. In the core, a unary call is a stream with a window of one."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from headrace.server.core.calls import MAX_CALL_BYTES, MAX_CALLS, Call, Plan
from headrace.server.core.events import Event
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.quotas import Quota
from headrace.server.core.tickets import Ticket
from headrace.wire.errors import InvalidArgument, ResourceExhausted
from headrace.wire.frames import FRAME_BYTES, frame_items

DEFAULT_MAX_MESSAGE = 4 << 20
MIN_MAX_MESSAGE = 64 << 10


@dataclass(slots=True)
class DefinedCall:
    call: Call
    nbytes: int
    bound: tuple[ModelQueue, Plan] | None = None
    generation: int = -1
    """The generation of the models that `bound` belongs to."""


class Stream:
    """What one client holds: its tickets, its calls, and the events that it has not taken yet."""

    def __init__(self, window: int, keep: Quota, unsent_limit: int, *, unary: bool = False) -> None:
        self.window = window
        self.unary = unary
        self.brief = False
        """It is one call, which ends with its one ticket: draining need not end it."""
        self.keep = keep
        self.ordered = False
        self.max_message_bytes = DEFAULT_MAX_MESSAGE
        self.begun = False
        """A command has been read, so that Open comes too late."""
        self.half_closed = False
        self.draining = False
        self.ended = False
        """Nothing more will be said: closed by both, drained, or the client has vanished."""
        self.tickets: dict[int, Ticket] = {}
        """The live ones, by tag."""
        self.in_flight = 0
        self.infers: OrderedDict[Ticket, None] = OrderedDict()
        """Infers in flight, in submission order."""
        self.turns: deque[Ticket] = deque()
        """Of an ordered stream: Infers whose terminal event was not put out, in submission order."""
        self.outbox: deque[Event] = deque()
        self.unsent_bytes = 0
        """Output bytes of events that were not written, those that wait for their turn included."""
        self._unsent_limit = unsent_limit
        self._writing = 0
        self._frame_items = frame_items(window)
        self._calls: dict[int, DefinedCall] = {}
        self._call_bytes = 0

    def define(self, number: int, call: Call, nbytes: int) -> None:
        """Remember a call of `nbytes` bytes of description. Raises InvalidArgument or ResourceExhausted."""
        if number == 0:
            raise InvalidArgument("a call is defined under number 0, which is none")
        old = self._calls.get(number)
        total = self._call_bytes + nbytes - (old.nbytes if old else 0)
        if old is None and len(self._calls) == MAX_CALLS:
            raise ResourceExhausted(
                f"call {number} is one more than the {MAX_CALLS} that a stream may define; define an old number again",
                retryable=False,
            )
        if total > MAX_CALL_BYTES:
            raise ResourceExhausted(
                f"with call {number} the descriptions of this stream take {total} bytes, over {MAX_CALL_BYTES}",
                retryable=False,
            )
        self._calls[number] = DefinedCall(call, nbytes)
        self._call_bytes = total

    def call(self, number: int) -> DefinedCall:
        """Raises InvalidArgument for a number that was never defined."""
        defined = self._calls.get(number)
        if defined is None:
            raise InvalidArgument(f"call {number} was never defined on this stream")
        return defined

    @property
    def may_read(self) -> bool:
        """Whether commands are read: a peer that does not take its events blocks only itself."""
        return len(self.outbox) < 2 * self.window

    @property
    def backpressured(self) -> bool:
        """So much is unsent that nothing starts, except the oldest Infer in flight.

        That one can never wait for another, and in an ordered stream all that is unsent may be waiting for it.
        """
        return self.unsent_bytes > self._unsent_limit

    @property
    def keeps(self) -> bool:
        return any(ticket.own for ticket in self.tickets.values())

    def take(self) -> list[Event]:
        """The events of the next frame, at least one if there is any. Their bytes count as unsent until `written`."""
        events: list[Event] = []
        size, limit, items = 0, min(FRAME_BYTES, self.max_message_bytes), self._frame_items
        while self.outbox and len(events) < items:
            event = self.outbox[0]
            size += event.nbytes + event.overhead
            if events and size > limit:
                break
            events.append(self.outbox.popleft())
            self._writing += event.nbytes
        return events

    def written(self) -> bool:
        """The transport has the frame. True when the stream was choked and no longer is."""
        backpressured = self.backpressured
        self.unsent_bytes -= self._writing
        self._writing = 0
        return backpressured and not self.backpressured

    def end(self) -> None:
        self.ended = True
        self.outbox.clear()
        for ticket in self.turns:
            ticket.event = None
        self.turns.clear()
        self._calls.clear()
        self.unsent_bytes = self._writing = 0

    def __repr__(self) -> str:
        return (
            f"<Stream {self.in_flight} of {self.window} in flight, {len(self.tickets)} live, "
            f"keeps {self.keep.used} bytes, {len(self.outbox)} events with {self.unsent_bytes} bytes unsent>"
        )
