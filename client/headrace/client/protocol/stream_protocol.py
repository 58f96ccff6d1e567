"""The client's side of a stream, pure: no asyncio, no gRPC, no clock.

    submit, fetch, release, cancel  ->  next_message(), for the server
    receive(message), end(error)    ->  the tickets that have ended
    expire(now)                     ->  the tickets that the server should have ended by now

A ticket is in flight from the moment it is queued until its terminal event is received or the stream has ended, whether
or not anything awaits it. The window limits the tickets in flight.

A ticket with a deadline also ends when that has passed, because the server may be silent. The server does not know, so
the ticket keeps its place in the window until its event comes, which then changes nothing else. It is late until then.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

from headrace.client.protocol.call import Call
from headrace.client.protocol.call_description import Names, names_of
from headrace.client.protocol.errors import broken_contract, copy_error
from headrace.client.protocol.hello import Hello, hello_from
from headrace.client.protocol.infer_encoder import InferEncoder, with_trace_parent
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.known_models import KnownModels
from headrace.client.protocol.layouts import EMPTY, Layout
from headrace.client.protocol.outbox import Outbox
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.ticket_state import TicketState, Unsent
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Code, DeadlineExceeded, HeadraceError, InvalidArgument, Unavailable, rebuild
from headrace.wire.frames import FRAME_BYTES, frame_items, parse_frame
from headrace.wire.limits import MAX_LAYOUTS
from headrace.wire.tensors import Buffer

MAX_UNSENT_BYTES = 64 << 20
"""Bytes waiting for the writer at which the window counts as full."""
MAX_PINNED_RATIO = 4
"""A result keeps a message alive only if the message is at most this many times larger than the result."""

FAULTS_OF_CALLS = (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
TRACE_PARENT_COST = 64
"""Bytes of a traceparent in an item, or more."""
RECHECK_SECONDS = 0.1
"""How soon an ordered stream looks again at a deadline that has passed before it was the ticket's turn to end."""

_WITH_RESULT = (pb.Event.DONE, pb.Event.FETCHED)


class StreamProtocol:
    """The state of a stream. The caller makes the tickets, of TicketState or a subclass."""

    def __init__(
        self,
        max_message_bytes: int,
        *,
        ordered: bool = False,
        models: KnownModels | None = None,
        can_move: bool = False,
    ) -> None:
        """`can_move`: what the server keeps can be made again on another stream."""
        self.max_message_bytes = max_message_bytes
        """The largest message that this side takes."""
        self._can_move = can_move
        self.ordered = ordered
        self.hello: Hello | None = None
        self.window = 0
        self.in_flight: dict[int, TicketState] = {}
        self.input_bytes = 0
        """The bytes of the inputs of the tickets in flight, and of those that are late."""
        self._max_input_bytes = sys.maxsize
        self.next_deadline = math.inf
        """When `expire` has something to do, or before."""
        self.draining = False
        """The server ends the stream."""
        self.asked_to_move = False
        """And goes on itself."""
        self.closed: Unavailable | None = None
        """Set when nothing more can be submitted: the error that `submit` raises."""
        self.error: HeadraceError | None = None
        """Set when the stream has ended: nothing is in flight, nothing is sent or received."""
        self._outbox = Outbox()
        self._encoder = InferEncoder(self, self._send, models or KnownModels())
        self._calls = self._encoder.calls
        self._layouts = {0: EMPTY}
        self.trace_parents: Callable[[], str] | None = None
        """Gives the trace context of an Infer that is submitted, or an empty text."""
        self.last_tag = 0
        """The next ticket gets the tag after it. Whoever sets it makes sure that tags are unique."""
        self._late: dict[int, TicketState] = {}
        """The tickets that ended here and not on the server, by their tags."""

    # For the application

    @property
    def free_window(self) -> int:
        """How many tickets may be submitted now if they are small. Unlimited on a closed stream, where `submit` raises.

        There is a place as long as the inputs in flight take less than the server has for this stream, so that one
        ticket can always be submitted.
        """
        if self.closed is not None:
            return sys.maxsize
        if self._outbox.unsent >= MAX_UNSENT_BYTES or self.input_bytes >= self._max_input_bytes:
            return 0
        return self.window - len(self.in_flight) - len(self._late)

    def submit(
        self,
        ticket: TicketState,
        model: str,
        version: str | SupportsIndex | None,
        inputs: Inputs,
        outputs: Iterable[str] | None,
        keep: Iterable[str],
        timeout: float | None,
        priority: int,
        keep_inputs: Iterable[str] = (),
    ) -> None:
        """Queue an Infer. Requires `free_window`. Has no effect if it raises.

        Raises Unavailable on a closed stream, and the errors of `names_of` and `InferEncoder.encode`.
        """
        if self.closed is not None:
            raise copy_error(self.closed)
        tag = self.last_tag + 1
        names: Names
        if (
            (version is None or type(version) is str)
            and type(outputs) is not str
            and type(keep) is not str
            and type(keep_inputs) is not str
        ):
            names = model, version, None if outputs is None else tuple(outputs), tuple(keep), tuple(keep_inputs)
        else:
            names = names_of(model, version, outputs, keep, keep_inputs)
        call = self._calls.latest.get(names)
        if (
            call is None
            or call.options != (timeout, priority)
            or call.cost > self._encoder.max_item_bytes
            or (item := call.match_and_fill(tag, inputs, self)) is None
        ):
            call, item, cost = self._encoder.encode(tag, names, inputs, timeout, priority)
        else:
            cost = call.cost
            self._calls.touch(call.number)
        if (
            self.trace_parents is not None
            and (parent := self.trace_parents())
            and cost + TRACE_PARENT_COST <= self._encoder.max_item_bytes
        ):
            item = with_trace_parent(item, parent)
            cost += TRACE_PARENT_COST
        self.last_tag = tag
        self._outbox.add(item, cost)
        ticket.tag = tag
        ticket.call = call
        ticket.input_bytes = cost
        self.input_bytes += cost
        self.in_flight[tag] = ticket

    def refuse(self, ticket: TicketState, names: Names, error: HeadraceError) -> None:
        """End an Infer with an error, and do not send it. What refers to it fails. Raises Unavailable as `submit`."""
        if self.closed is not None:
            raise copy_error(self.closed)
        self.last_tag = ticket.tag = self.last_tag + 1
        model, _, outputs, keep, keep_inputs = names
        ticket.call, ticket.error = Unsent(model, outputs, (*keep, *keep_inputs)), error

    def fetch(self, ticket: TicketState, source: TicketState, output: str, slices: Slices) -> None:
        """Queue a Fetch. Requires `free_window`. Raises Unavailable on a closed stream."""
        if self.closed is not None:
            raise copy_error(self.closed)
        command = pb.Command(kind=pb.Command.FETCH, tag=self.last_tag + 1)
        command.fetch.source = source.tag
        command.fetch.output = output
        for start, stop in slices:
            command.fetch.slices.add(start=start, stop=stop)
        self._command(command)
        self.last_tag = ticket.tag = command.tag
        self.in_flight[command.tag] = ticket

    def release(self, source: TicketState, names: Sequence[str]) -> None:
        """Release kept outputs, or all if `names` is empty. Raises KeyError for an output that is not in `keep`."""
        released = source.mark_released(names)
        if released and source.error is None and self.error is None:
            release = pb.Release(outputs=released if names else ())
            self._command(pb.Command(kind=pb.Command.RELEASE, tag=source.tag, release=release))

    def cancel(self, ticket: TicketState) -> None:
        if not ticket.ended and not ticket.cancelling:
            ticket.cancelling = True
            self._command(pb.Command(kind=pb.Command.CANCEL, tag=ticket.tag))

    def set_deadline(self, ticket: TicketState, deadline: float) -> bool:
        """Set when a ticket in flight ends here at the latest. Returns whether that makes `next_deadline` sooner."""
        ticket.deadline = deadline
        if deadline >= self.next_deadline:
            return False
        self.next_deadline = deadline
        return True

    def close(self) -> None:
        """Accept no more tickets. Those in flight go on."""
        if self.closed is None:
            self.closed = Unavailable("the stream was closed", retryable=False)

    # For the transport

    def next_message(self) -> bytes | None:
        """The next frame, with everything that is ready and fits; None if nothing is ready."""
        return self._outbox.next_message()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the writer."""
        return self._outbox.unsent

    @property
    def finished(self) -> bool:
        """Whether the stream is closed, and nothing is in flight or unsent."""
        return self.closed is not None and not self.in_flight and not self.unsent

    def receive(self, message: bytes) -> list[TicketState]:
        """Process a frame. Returns the tickets that it ends: all of them if it ends the stream."""
        ended: list[TicketState] = []
        if self.error is not None:
            return ended
        try:
            frame, tensors = parse_frame(message, pb.ServerFrame())
            if tensors and type(tensors[0]) is memoryview:
                tensors = [_unpinned(tensor, len(message)) for tensor in tensors]
            self._process(frame.events, tensors, ended)
        except InvalidArgument as error:
            ended += self.end(broken_contract(error))
        return ended

    def expire(self, now: float) -> list[TicketState]:
        """End the tickets whose deadline has passed, and cancel them on the server. Returns them.

        In an ordered stream, a ticket does not end before those that were submitted before it. Looks at all tickets in
        flight; they are few, and most deadlines never come.
        """
        expired: list[TicketState] = []
        self.next_deadline = math.inf
        turn = True
        for ticket in self.in_flight.values():
            passed = ticket.deadline <= now
            if passed and turn:
                expired.append(ticket)
                continue
            self.next_deadline = min(self.next_deadline, now + RECHECK_SECONDS if passed else ticket.deadline)
            if self.ordered and ticket.call is not None:
                turn = False
        for ticket in expired:
            self.cancel(ticket)
            del self.in_flight[ticket.tag]
            self._late[ticket.tag] = ticket
            ticket.error = DeadlineExceeded("the server did not end the ticket within its timeout")
        return expired

    def end(self, error: HeadraceError) -> list[TicketState]:
        """End the stream. Returns the tickets that were in flight, which fail with this error."""
        if self.error is None:
            self.error = error
        if self.closed is None:
            self.closed = Unavailable(f"the stream has ended: {error.message}")
        tickets = list(self.in_flight.values())
        self.in_flight.clear()
        self.input_bytes = 0
        self._late.clear()
        self.next_deadline = math.inf
        self._outbox.clear()
        for ticket in tickets:
            ticket.error = error
        return tickets

    # Internal

    def _command(self, command: pb.Command) -> None:
        self._send(pb.ClientFrame(commands=[command]).SerializeToString())

    def _send(self, item: bytes) -> None:
        self._outbox.add(item, len(item))

    def _process(self, events: Iterable[pb.Event], tensors: Sequence[Buffer], ended: list[TicketState]) -> None:
        """Raises InvalidArgument for events that break the contract."""
        in_flight, layouts, at = self.in_flight, self._layouts, 0
        for event in events:
            kind = event.kind
            if kind in _WITH_RESULT:
                ticket = in_flight.pop(event.tag, None)
                layout = layouts.get(event.layout)
                if layout is None or (ticket is None and event.tag not in self._late):
                    raise InvalidArgument(f"tag {event.tag} or layout {event.layout} is unknown")
                if ticket is None:
                    self._end_late(event.tag)
                    at += layout.count
                    continue
                self.input_bytes -= ticket.input_bytes
                stop = at + layout.count
                ticket.tensors = tensors[at:stop]
                ticket.layout = layout
                ticket.times = event.waiting_us, event.queued_us, event.running_us
                ended.append(ticket)
                at = stop
            elif kind == pb.Event.FAILED:
                ended += self._fail(event.tag, event.failure)
            elif kind == pb.Event.LAYOUT:
                self._define_layout(event.layout, event.define)
            elif kind == pb.Event.HELLO:
                self._open(event.hello)
            elif kind == pb.Event.DRAINING:
                self.draining, self.asked_to_move = True, event.stream_only
        if at != len(tensors):
            raise InvalidArgument(f"the frame has {len(tensors)} tensors, but describes {at}")

    def _fail(self, tag: int, failure: pb.Failure) -> list[TicketState]:
        after = failure.retry_after_us
        error = rebuild(failure.code, failure.message, failure.retryable, after * 1e-6 if after else None)
        if not tag:
            # The server did not understand a command, and does not say which: no ticket can be trusted any more.
            return self.end(error)
        ticket = self.in_flight.pop(tag, None)
        if ticket is not None:
            self.input_bytes -= ticket.input_bytes
            ticket.error = error
            if isinstance(ticket.call, Call) and error.code in FAULTS_OF_CALLS:
                self._encoder.doubt(ticket.call)
            return [ticket]
        late = self._late.pop(tag, None)
        if late is None:
            raise InvalidArgument(f"tag {tag} is unknown")
        self.input_bytes -= late.input_bytes
        return []

    def _end_late(self, tag: int) -> None:
        """The server was done before it was told to cancel. What it keeps has no other owner."""
        late = self._late.pop(tag)
        self.input_bytes -= late.input_bytes
        if late.keep:
            self._command(pb.Command(kind=pb.Command.RELEASE, tag=tag, release=pb.Release()))

    def _define_layout(self, number: int, layout: pb.Layout) -> None:
        if not 1 <= number <= MAX_LAYOUTS:
            raise InvalidArgument(f"layout {number} is not between 1 and {MAX_LAYOUTS}")
        self._layouts[number] = Layout(layout.sent, layout.kept, layout.version, layout.fingerprint)

    def _open(self, message: pb.Hello) -> None:
        if self.hello is not None:
            raise InvalidArgument("Hello came a second time")
        self.hello = hello = hello_from(message)
        self.window = hello.window
        self._max_input_bytes = hello.queue_bytes or sys.maxsize
        self._encoder.set_max_message_bytes(hello.max_message_bytes)
        self._outbox.set_limits(frame_items(hello.window), min(FRAME_BYTES, hello.max_message_bytes))
        opening = pb.Open(ordered=self.ordered, max_message_bytes=self.max_message_bytes, can_move=self._can_move)
        self._command(pb.Command(kind=pb.Command.OPEN, open=opening))

    def load(self) -> str:
        """One line about the state of the stream, for `repr`."""
        state = "ended" if self.error else "closed" if self.closed else "open"
        draining = ", draining" if self.draining else ""
        late = f", {len(self._late)} late" if self._late else ""
        return (
            f"{state}{draining}, {len(self.in_flight)}/{self.window} in flight{late}, "
            f"{self._outbox.unsent} bytes unsent, {len(self._calls)} calls"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.load()}>"


def _unpinned(tensor: Buffer, message_bytes: int) -> Buffer:
    return tensor if MAX_PINNED_RATIO * len(tensor) >= message_bytes else bytes(tensor)
