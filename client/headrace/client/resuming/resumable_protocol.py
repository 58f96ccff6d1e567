"""The client's side of a stream that outlives its connections. Pure: the time comes from the clock that it is given.

    connected(protocol), receive, disconnected()  ->  tickets that have ended, in `take_ended`
    submit, fetch, release, cancel                as in StreamProtocol, on whichever connection there is

Tickets of the application keep their tags. Each connection has a StreamProtocol of its own, with tickets of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from headrace.client.protocol.call_description import Names, names_of, normalized
from headrace.client.protocol.errors import copy_error
from headrace.client.protocol.hello import Hello
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, Zeros
from headrace.client.protocol.known_models import KnownModels
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_protocol import FAULTS_OF_CALLS, StreamProtocol
from headrace.client.protocol.ticket_state import TicketState, Unsent
from headrace.client.resuming import errors
from headrace.client.resuming.endings import Endings
from headrace.client.resuming.entry import Asked, Attempt, Entry, Link, Value
from headrace.client.resuming.journal import Journal
from headrace.client.resuming.placement import Placement
from headrace.wire.durations import timeout_us
from headrace.wire.errors import Code, HeadraceError, Unavailable

_FETCH = Asked("", None, (), (), ())


class ResumableProtocol:
    """The state of the stream. It begins without a connection."""

    def __init__(
        self,
        max_message_bytes: int,
        clock: Callable[[], float],
        *,
        ordered: bool = False,
        models: KnownModels | None = None,
    ) -> None:
        """The protocols of connections must take inputs as they are given: `models` are those that know more."""
        self.max_message_bytes = max_message_bytes
        self.closed: Unavailable | None = None
        self.journal = Journal()
        self._clock = clock
        self._models = models or KnownModels()
        self._error: HeadraceError | None = None
        self._hello: Hello | None = None
        self.next_deadline = math.inf
        """When `expire` has something to do, or before."""
        self._endings = Endings(self.journal, clock, ordered=ordered)
        self._placement = Placement(self.journal, self._endings, clock)
        self._last_tag = 0

    # For the application

    @property
    def hello(self) -> Hello | None:
        """That of the connection of now, or else of the last one."""
        return self._hello

    @property
    def in_flight(self) -> dict[int, Entry]:
        return self.journal.unfinished

    @property
    def draining(self) -> bool:
        connection = self._placement.connection
        return connection is not None and connection.draining

    @property
    def asked_to_move(self) -> bool:
        connection = self._placement.connection
        return connection is not None and connection.asked_to_move

    @property
    def free_window(self) -> int:
        """How many tickets may be submitted now: none without a connection, and while others are sent again."""
        return sys.maxsize if self.closed is not None else self._placement.free_window

    def submit(
        self,
        ticket: TicketState,
        model: str,
        version: str | int | None,
        inputs: Inputs,
        outputs: Iterable[str] | None,
        keep: Iterable[str],
        timeout: float | None,
        priority: int,
        keep_inputs: Iterable[str] = (),
    ) -> None:
        """As in StreamProtocol. The ticket may have ended already: if it refers to an output that is lost."""
        if self.closed is not None:
            raise copy_error(self.closed)
        timeout_us(timeout)
        names = names_of(model, version, outputs, keep, keep_inputs)
        values, lost = self._values(self._models.fit(names, *normalized(inputs)))
        asked = Asked(*names[:3], (*names[3], *names[4]), names[4])
        if lost is None:
            _check_kept_inputs(asked, values)
        tag = self._last_tag + 1
        entry = Entry(ticket, tag, asked, values)
        entry.priority = priority
        if timeout is not None:
            entry.deadline = self._clock() + timeout
        self._add(entry, lost)
        ticket.call = asked

    def refuse(self, ticket: TicketState, names: Names, error: HeadraceError) -> None:
        """As in StreamProtocol."""
        if self.closed is not None:
            raise copy_error(self.closed)
        self._last_tag = ticket.tag = self._last_tag + 1
        model, _, outputs, keep, keep_inputs = names
        ticket.call, ticket.error = Unsent(model, outputs, (*keep, *keep_inputs)), error

    def fetch(self, ticket: TicketState, source: TicketState, output: str, slices: Slices) -> None:
        """As in StreamProtocol. The ticket may have ended already."""
        if self.closed is not None:
            raise copy_error(self.closed)
        reference = Reference(self, source.tag, output)
        link = self._link(reference)
        entry = Entry(ticket, self._last_tag + 1, _FETCH, {} if link is None else {output: link})
        entry.fetch = output, slices
        keep_seconds = self.journal.keep_seconds
        self._add(entry, None if link else errors.unknown_fetch(source.tag, output, keep_seconds))

    def release(self, source: TicketState, names: Sequence[str]) -> None:
        """Release kept outputs, or all if `names` is empty. Raises KeyError for an output that is not in `keep`."""
        released = source.mark_released(names)
        entry = self.journal.entries.get(source.tag)
        if entry is not None and released:
            self.journal.release(entry, released)
            self._placement.release_unneeded(entry)
            self._placement.let_go()

    def cancel(self, ticket: TicketState) -> None:
        if ticket.ended or ticket.cancelling:
            return
        ticket.cancelling = True
        entry = self.journal.unfinished.get(ticket.tag)
        if entry is None:
            return
        if entry.attempt is not None:
            entry.attempt.owner.cancel(entry.attempt)
        else:
            self._endings.fail(entry, errors.cancelled())

    def close(self) -> None:
        """Accept no more tickets. Those in flight go on, over breaks too."""
        if self.closed is None:
            self.closed = Unavailable("the stream was closed", retryable=False)

    # For the transport

    def connected(self, connection: StreamProtocol) -> int:
        """A connection has begun, with Hello. Returns how many tickets in flight are sent again."""
        self._hello = connection.hello
        assert self._hello is not None
        self.journal.keep_seconds = self._hello.keep_seconds
        self._endings.tickets += self.expire(self._clock())
        count = len(self.journal.unfinished)
        self._placement.connect(connection)
        return count

    def disconnected(self, *, crashed: bool = False) -> None:
        """The connection has ended, and with it the tickets that were cancelled, or may have ended the server.

        `crashed`: the server has gone without a word, as when its process dies.
        """
        self._placement.disconnect(crashed=crashed)

    def set_deadline(self, ticket: TicketState, deadline: float) -> bool:
        """As in StreamProtocol."""
        ticket.deadline = deadline
        entry = self.journal.unfinished.get(ticket.tag)
        if entry is None:
            return False
        if entry.attempt is not None:
            entry.attempt.owner.set_deadline(entry.attempt, deadline)
        if deadline >= self.next_deadline:
            return False
        self.next_deadline = deadline
        return True

    def expire(self, now: float) -> list[TicketState]:
        """As in StreamProtocol, with a connection or without."""
        connection = self._placement.connection
        for attempt in () if connection is None else connection.expire(now):
            assert isinstance(attempt, Attempt)
            self._endings.take(attempt, self._placement.number)
        waiting = [entry for entry in self.journal.unfinished.values() if entry.attempt is None and not entry.ended]
        for entry in waiting:
            if entry.ticket is not None and entry.ticket.deadline <= now:
                self._endings.fail(entry, errors.expired())
        left = (entry.ticket.deadline for entry in waiting if entry.ticket is not None and not entry.ended)
        self.next_deadline = min(left, default=math.inf)
        if connection is not None:
            self.next_deadline = min(self.next_deadline, connection.next_deadline)
        return self.take_ended()

    def next_message(self) -> bytes | None:
        connection = self._placement.connection
        if connection is None:
            return None
        self._placement.pump()
        return connection.next_message()

    def receive(self, message: bytes) -> list[TicketState]:
        """Process a frame of the connection. Returns the tickets that it ends."""
        connection = self._placement.connection
        assert connection is not None
        for attempt in connection.receive(message):
            assert isinstance(attempt, Attempt)
            if attempt.error is not None and attempt.error.code in FAULTS_OF_CALLS:
                self._models.forget((attempt.entry.asked.model, attempt.entry.asked.version or ""))
            if self._is_sent_again(connection, attempt):
                attempt.entry.attempt = None
                if attempt.entry.ticket is not None and attempt.entry.ticket.cancelling:
                    self._endings.fail(attempt.entry, errors.cancelled())
            else:
                self._endings.take(attempt, self._placement.number)
        self._placement.pump()
        self.journal.expire(self._clock())
        self._placement.let_go()
        return self.take_ended()

    def take_ended(self) -> list[TicketState]:
        """The tickets that have ended since they were last taken."""
        tickets = [*self._endings.tickets]
        self._endings.tickets.clear()
        return tickets

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight on the connection."""
        connection = self._placement.connection
        return connection is None or not connection.in_flight

    @property
    def unsent(self) -> int:
        """Bytes that wait for the writer."""
        connection = self._placement.connection
        return 0 if connection is None else connection.unsent

    @property
    def finished(self) -> bool:
        """Whether the stream is closed, and nothing is in flight or unsent."""
        return self.closed is not None and not self.journal.unfinished and not self.unsent

    @property
    def error(self) -> HeadraceError | None:
        """Set when the stream has ended, or the server broke the protocol, which no other connection mends."""
        connection = self._placement.connection
        return self._error or (connection.error if connection is not None else None)

    def end(self, error: HeadraceError) -> list[TicketState]:
        """End the stream. Returns the tickets that were in flight, which fail with this error."""
        if self._error is None:
            self._error = error
        if self.closed is None:
            self.closed = Unavailable(f"the stream has ended: {error.message}")
        if self._placement.connection is not None:
            self._placement.connection.end(error)
        for entry in [*self.journal.unfinished.values()]:
            if not entry.ended:
                self._endings.fail(entry, error)
        return self.take_ended()

    def load(self) -> str:
        """One line about the state of the stream, for `repr`."""
        connection = self._placement.connection
        where = "not connected" if connection is None else connection.load()
        journal = self.journal
        return f"{len(journal.unfinished)} tickets in flight, {len(journal.entries)} in the journal, {where}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.load()}>"

    # Internal

    def _add(self, entry: Entry, lost: HeadraceError | None) -> None:
        ticket = entry.ticket
        assert ticket is not None
        self.journal.add(entry)
        self._endings.expect(entry)
        try:
            lost = lost or self._placement.source_failure(entry)
            if lost is not None:
                self._endings.fail(entry, lost)
            elif self._placement.is_ready(entry):
                self._placement.place(entry)
            else:
                self._placement.enqueue([entry])
        except BaseException:
            self._endings.discard(entry)
            self.journal.discard(entry)
            raise
        self._last_tag = ticket.tag = entry.tag

    def _values(self, inputs: NormalInputs) -> tuple[dict[str, Value], HeadraceError | None]:
        """Copies of the inputs, and an error if one of them is a lost output."""
        values: dict[str, Value] = {}
        lost: HeadraceError | None = None
        for name, value in inputs.items():
            if isinstance(value, Reference):
                if value.stream is not self:
                    raise ValueError(f"{value} belongs to another stream")
                link = self._link(value)
                if link is None:
                    lost = errors.unknown_reference(value.tag, value.output, self.journal.keep_seconds)
                else:
                    values[name] = link
            else:
                values[name] = value if isinstance(value, Zeros) else np.array(value)
        return ({} if lost else values), lost

    def _link(self, reference: Reference) -> Link | None:
        """None if the output is lost: nothing can make it again."""
        source = self.journal.entries.get(reference.tag)
        if source is None:
            return None
        if source.attempt is None and reference.output not in source.held:
            return None
        # Without its ticket, whose result the journal must not keep.
        return Link(source, Reference(None, reference.tag, reference.output, reference.take, None, reference.slices))

    def _is_sent_again(self, connection: StreamProtocol, attempt: Attempt) -> bool:
        """Whether it failed only because the server drains, so that it is sent again on another connection."""
        error, entry = attempt.error, attempt.entry
        if error is None or not connection.draining or entry.attempt is not attempt:
            return False
        if error.code is Code.UNAVAILABLE:
            return True
        passed_on = error.code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)
        return passed_on and any(_is_missing(source) for source, _ in entry.sources)


def _check_kept_inputs(asked: Asked, values: Mapping[str, Value]) -> None:
    """Raises ValueError for what cannot be sent again by itself."""
    for name in asked.keep_inputs:
        if name not in values:
            raise ValueError(f"keep_inputs has {name!r}, which is not in inputs; with resume=True use the same name")
        if isinstance(values[name], Link):
            raise ValueError(
                f"input {name!r} is a reference, which a stream with resume=True cannot keep again; refer to the "
                "ticket that it refers to"
            )


def _is_missing(source: Entry) -> bool:
    """Whether a source has to be sent again."""
    return source.attempt is None and source.checkpoint is None and source.error is None and source.lost is None
