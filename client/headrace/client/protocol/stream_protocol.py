"""The client's side of a stream, pure: no asyncio, no gRPC, no clock.

    submit, fetch, release, cancel  ->  next_message(), for the server
    receive(message), end(error)    ->  the tickets that have ended

A ticket is in flight from the moment it is queued until its terminal event is received or the
stream has ended, whether anybody looks at it or not: that is what the window counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from headrace.client.protocol.call import Arrays, Call
from headrace.client.protocol.calls import Calls, Names, describe, signature
from headrace.client.protocol.inputs import Inputs, Reference, Zeros, normalised
from headrace.client.protocol.layouts import EMPTY, Layout
from headrace.client.protocol.outbox import Outbox
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.ticket_state import TicketState, again
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import seconds_of
from headrace.wire.errors import (
    HeadraceError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    quote,
    rebuild,
)
from headrace.wire.frames import FRAME_BYTES, SCAN_FROM, frame_items, parse_frame
from headrace.wire.tensors import Buffer

UNSENT_BYTES = 64 << 20
"""Bytes that wait for the writer from which on there is no room, whatever the window."""
MAX_LAYOUTS = 1024
PIN = 4
"""A result never keeps a message alive that is more than so many times its own size."""

_WITH_RESULT = (pb.Event.DONE, pb.Event.FETCHED)

T = TypeVar("T", bound=TicketState)


@dataclass(frozen=True, slots=True)
class Hello:
    """What the server said when the stream was opened. The window is in tickets, infinite seconds are for ever."""

    version: str
    window: int
    max_message_bytes: int
    keep_bytes: int
    keep_seconds: float


class StreamProtocol(Generic[T]):
    """One stream. The tickets are the caller's objects, of a class that it may extend."""

    def __init__(self, max_message_bytes: int, *, ordered: bool = False) -> None:
        self.max_message_bytes = max_message_bytes
        """The largest message that this side takes."""
        self.ordered = ordered
        self.hello: Hello | None = None
        self.window = 0
        self.in_flight: dict[int, T] = {}
        self.draining = False
        self.closed: Unavailable | None = None
        """Set when nothing more can be submitted: what who tries is told."""
        self.error: HeadraceError | None = None
        """Set when the stream has ended: nothing is in flight, nothing is sent or received."""
        self._outbox = Outbox()
        self._calls = Calls()
        self._layouts = {0: EMPTY}
        self._last_tag = 0
        self._most_cost = 0

    # What the application does

    @property
    def room(self) -> int:
        """How many tickets may be submitted now. On a closed stream all may try, to be told so."""
        if self.closed is not None:
            return sys.maxsize
        if self._outbox.unsent >= UNSENT_BYTES:
            return 0
        return self.window - len(self.in_flight)

    def submit(
        self,
        ticket: T,
        model: str,
        version: str | None,
        inputs: Inputs,
        outputs: Sequence[str] | None,
        keep: Sequence[str],
        timeout: float | None,
        priority: int,
    ) -> None:
        """Queue an Infer. Only while there is room. When it raises, nothing has happened.

        Raises what the client can see itself: InvalidArgument for a dtype or element without a
        datatype, ResourceExhausted for inputs over the server's largest message, Unavailable on a
        closed stream, ValueError for a reference to another stream's ticket.
        """
        if self.closed is not None:
            raise again(self.closed)
        tag = self._last_tag + 1
        names = model, version, None if outputs is None else tuple(outputs), tuple(keep)
        call = self._calls.latest.get(names)
        if (
            call is None
            or call.options != (timeout, priority)
            or call.cost > self._most_cost
            or (item := call.repeat(tag, inputs, self)) is None
        ):
            call, item, cost = self._infer(tag, names, inputs, outputs, keep, timeout, priority)
        else:
            cost = call.cost
        self._last_tag = call.used = tag
        self._outbox.add(item, cost)
        ticket.tag = tag
        ticket.call = call
        self.in_flight[tag] = ticket

    def fetch(self, ticket: T, source: TicketState, output: str, slices: Slices) -> None:
        """Queue a Fetch. Only while there is room. Raises Unavailable on a closed stream."""
        if self.closed is not None:
            raise again(self.closed)
        command = pb.Command(kind=pb.Command.FETCH, tag=self._last_tag + 1)
        command.fetch.source = source.tag
        command.fetch.output = output
        for start, stop in slices:
            command.fetch.slices.add(start=start, stop=stop)
        self._command(command)
        self._last_tag = ticket.tag = command.tag
        self.in_flight[command.tag] = ticket

    def release(self, source: TicketState, names: Sequence[str]) -> None:
        """Let go of kept outputs, of all when none is named. Raises KeyError for others."""
        released = source.let_go(names)
        if released and source.error is None and self.error is None:
            release = pb.Release(outputs=released if names else ())
            self._command(pb.Command(kind=pb.Command.RELEASE, tag=source.tag, release=release))

    def cancel(self, ticket: T) -> None:
        if not ticket.ended and not ticket.cancelling:
            ticket.cancelling = True
            self._command(pb.Command(kind=pb.Command.CANCEL, tag=ticket.tag))

    def close(self) -> None:
        """Submit nothing more. What is in flight goes on."""
        if self.closed is None:
            self.closed = Unavailable("the stream was closed", retryable=False)

    # What the transport does

    def next_message(self) -> bytes | None:
        """The next frame, holding all that is ready and fits; None when nothing is."""
        return self._outbox.next_message()

    @property
    def finished(self) -> bool:
        """The application wants nothing more, and has all that it wanted."""
        return self.closed is not None and not self.in_flight and not self._outbox.unsent

    def receive(self, message: bytes) -> list[T]:
        """Take a frame. Gives the tickets that it ends: all of them when it ends the stream."""
        ended: list[T] = []
        if self.error is not None:
            return ended
        try:
            frame, tensors = parse_frame(message, pb.ServerFrame())
            if len(message) > SCAN_FROM:
                tensors = [_unpinned(tensor, len(message)) for tensor in tensors]
            self._take(frame.events, tensors, ended)
        except InvalidArgument as error:
            text = f"the server sent what the contract does not have: {error.message}"
            ended += self.end(Internal(text))
        return ended

    def end(self, error: HeadraceError) -> list[T]:
        """The stream has ended. Gives the tickets that were in flight, which fail with this."""
        if self.error is None:
            self.error = error
        if self.closed is None:
            self.closed = Unavailable(f"the stream has ended: {error.message}")
        tickets = list(self.in_flight.values())
        self.in_flight.clear()
        self._outbox.clear()
        for ticket in tickets:
            ticket.error = error
        return tickets

    # Inside

    def _command(self, command: pb.Command) -> None:
        item = pb.ClientFrame(commands=[command]).SerializeToString()
        self._outbox.add(item, len(item))

    def _infer(
        self,
        tag: int,
        names: Names,
        inputs: Inputs,
        outputs: Sequence[str] | None,
        keep: Sequence[str],
        timeout: float | None,
        priority: int,
    ) -> tuple[Call, bytes, int]:
        """The call, item and cost of any Infer. Raises as `submit`."""
        key, arrays, references = signature(names, inputs)
        call = self._calls.get(key)
        if call is None:
            call, arrays = self._define(names, inputs, outputs, keep)
        for reference in references:
            if reference.stream is not self:
                raise ValueError(f"{reference} belongs to another stream")
        if call.options != (timeout, priority):
            call.set_options(timeout, priority)
        if call.cost > self._most_cost:
            raise _too_large(call, inputs, call.cost, self._most_cost)
        item, cost = call.item(tag, arrays, references)
        if cost > self._most_cost:
            raise _too_large(call, inputs, cost, self._most_cost)
        return call, item, cost

    def _define(
        self,
        names: Names,
        inputs: Inputs,
        outputs: Sequence[str] | None,
        keep: Sequence[str],
    ) -> tuple[Call, Arrays]:
        inputs = normalised(inputs)
        key, arrays, _ = signature(names, inputs)
        call = self._calls.get(key)
        if call is None:
            model, version, *_ = names
            call, items = self._calls.define(key, describe(model, version, inputs, outputs, keep), inputs)
            for item in items:
                self._outbox.add(item, len(item))
        return call, arrays

    def _take(self, events: Iterable[pb.Event], tensors: Sequence[Buffer], ended: list[T]) -> None:
        """Raises InvalidArgument for what the contract does not have."""
        in_flight, layouts, at = self.in_flight, self._layouts, 0
        for event in events:
            kind = event.kind
            if kind in _WITH_RESULT:
                ticket = in_flight.pop(event.tag, None)
                layout = layouts.get(event.layout)
                if ticket is None or layout is None:
                    raise InvalidArgument(f"tag {event.tag} or layout {event.layout} is unknown")
                stop = at + layout.count
                ticket.tensors = tensors[at:stop]
                ticket.layout = layout
                ticket.times = event.waiting_us, event.queued_us, event.running_us
                ended.append(ticket)
                at = stop
            elif kind == pb.Event.FAILED:
                ended += self._failed(event.tag, event.failure)
            elif kind == pb.Event.LAYOUT:
                self._define_layout(event.layout, event.define)
            elif kind == pb.Event.HELLO:
                self._greeted(event.hello)
            elif kind == pb.Event.DRAINING:
                self.draining = True
        if at != len(tensors):
            raise InvalidArgument(f"a frame with {len(tensors)} tensors, {at} described")

    def _failed(self, tag: int, failure: pb.Failure) -> list[T]:
        error = rebuild(failure.code, failure.message, failure.retryable)
        if not tag:
            # What this side has sent was not understood: whose fault it was is not known, so
            # nothing can be trusted.
            return self.end(error)
        ticket = self.in_flight.pop(tag, None)
        if ticket is None:
            raise InvalidArgument(f"tag {tag} is unknown")
        ticket.error = error
        return [ticket]

    def _define_layout(self, number: int, layout: pb.Layout) -> None:
        if not 1 <= number <= MAX_LAYOUTS:
            raise InvalidArgument(f"layout {number} is none of 1 to {MAX_LAYOUTS}")
        self._layouts[number] = Layout(layout.sent, layout.kept)

    def _greeted(self, hello: pb.Hello) -> None:
        if self.hello is not None or not hello.window or not hello.max_message_bytes:
            raise InvalidArgument("a second Hello, or one without window or message size")
        self.window = hello.window
        self.hello = Hello(
            hello.version,
            hello.window,
            hello.max_message_bytes,
            hello.keep_bytes,
            seconds_of(hello.keep_us),
        )
        self._most_cost = hello.max_message_bytes
        self._calls.most_item = min(self._calls.most_item, hello.max_message_bytes)
        nbytes = min(FRAME_BYTES, hello.max_message_bytes)
        self._outbox.set_limits(frame_items(hello.window), nbytes)
        opening = pb.Open(ordered=self.ordered, max_message_bytes=self.max_message_bytes)
        self._command(pb.Command(kind=pb.Command.OPEN, open=opening))

    def load(self) -> str:
        state = "ended" if self.error else "closed" if self.closed else "open"
        draining = ", draining" if self.draining else ""
        return (
            f"{state}{draining}, {len(self.in_flight)}/{self.window} in flight, "
            f"{self._outbox.unsent} bytes unsent, {len(self._calls)} calls"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.load()}>"


def _unpinned(tensor: Buffer, message_bytes: int) -> Buffer:
    return tensor if PIN * len(tensor) >= message_bytes else bytes(tensor)


def _too_large(call: Call, inputs: Inputs, cost: int, most: int) -> ResourceExhausted:
    sizes = ", ".join(
        f"{quote(name)} {np.asarray(value).nbytes}"
        for name, value in inputs.items()
        if not isinstance(value, Reference | Zeros)
    )
    return ResourceExhausted(
        f"the inputs of model {quote(call.model)} take {cost} bytes ({sizes}); "
        f"the server takes messages of at most {most}",
        retryable=False,
    )
