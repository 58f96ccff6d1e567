"""How tickets end, and how the tickets that wait for them go on."""

from __future__ import annotations

from dataclasses import replace

from headrace.wire.limits import MIN_MAX_MESSAGE_BYTES
from tests.server.core.model_specs import FakeTensor
from tests.server.core.reference.expected import ExpectedEvent, ExpectedStream, ExpectedTicket
from tests.server.core.reference.shapes import lies_inside, part_fits, part_of
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns
from tests.server.core.reference.waits import Waits

SMALL_MESSAGE_BYTES = 60_000
"""Output bytes that fit into the smallest message for certain. Outputs are either much smaller or much larger."""


class Ends:
    def __init__(self, state: ExpectedState, turns: Turns, waits: Waits) -> None:
        self._state = state
        self._turns = turns
        self._waits = waits

    def expire(self) -> None:
        """End what the time ends: tickets, kept outputs, the grace period."""
        state = self._state
        late = [e for e in state.tickets if e.ends_at is not None and e.end is None and e.ends_at <= state.now]
        for ticket in sorted(late, key=lambda e: (e.ends_at, e.number)):
            if ticket.end is None and ticket.ends_at == ticket.due:
                self.fail(ticket, "DEADLINE_EXCEEDED", words=(str(ticket.tag),))
            elif ticket.end is None:
                self.fail(ticket, "RESOURCE_EXHAUSTED", words=(str(ticket.tag), "has waited"), retryable=True)
        for stream in state.streams:
            for output in stream.unused_outputs():
                if output.last_used + state.limits.keep_seconds <= state.now:
                    output.owned = False
        if state.grace_ends is not None and state.now >= state.grace_ends:
            state.grace_ends = None
            # The newest first, so that nothing fails for want of its source.
            for ticket in reversed(state.tickets):
                if ticket.end is None and not ticket.stream.ended:
                    self.fail(ticket, "UNAVAILABLE", retryable=True)
                for output in ticket.outputs:
                    output.owned = False

    def go_on(self, stream: ExpectedStream) -> None:
        """Queue the Infers and finish the Fetches whose sources are all there now."""
        for ticket in list(stream.tickets):
            started = ticket.end is not None or ticket.place is not None
            if started or any(source.tensor is None for source in ticket.sources):
                continue
            if not ticket.infer:
                self._deliver(ticket)
                continue
            assert ticket.call is not None
            triples = zip(ticket.call.references, ticket.sources, ticket.parts, strict=True)
            if all(
                source.tensor is not None and part_fits(source.tensor.shape, part, port)
                for (port, _, _), source, part in triples
            ):
                self._waits.queue(ticket)
                seconds = self._state.bounds(ticket.call.spec)[1]
                ticket.waits_until = self._state.now + seconds if seconds else None
                self._turns.line_up(ticket)
            else:
                self.fail(ticket, "INVALID_ARGUMENT", one_of=frozenset({"has shape", "does not lie inside"}))

    def fail(
        self,
        ticket: ExpectedTicket,
        *codes: str,
        words: tuple[str, ...] = (),
        one_of: frozenset[str] = frozenset(),
        retryable: bool | None = None,
    ) -> None:
        """End a ticket without a result, and every ticket that depends on it."""
        self.finish(ticket, codes[0], ExpectedEvent("failed", ticket.tag, frozenset(codes), words, one_of, retryable))
        self.stop_or_let_go(ticket)
        for output in ticket.outputs:
            output.owned = False
        for other in ticket.stream.tickets:
            if other.end is None and any(source.ticket is ticket for source in other.sources):
                code = "FAILED_PRECONDITION" if other.infer else "NOT_FOUND"
                # The rules do not say which of several is named.
                missing = [source for source in other.sources if source.tensor is None]
                names = frozenset(f"{each} " for each in missing)
                self.fail(other, code, one_of=names, retryable=False)

    def finish(self, ticket: ExpectedTicket, end: str, event: ExpectedEvent) -> None:
        """Give a ticket its terminal event, in its turn where the stream is ordered."""
        ticket.end, ticket.event = end, replace(event, of_infer=ticket.infer)
        stream = ticket.stream
        if not (ticket.infer and stream.ordered):
            self.expect(stream, ticket.event)
        while stream.turns and stream.turns[0].event is not None:
            self.expect(stream, stream.turns.pop(0).event)

    def expect(self, stream: ExpectedStream, event: ExpectedEvent | None) -> None:
        """An event must come now, unless the stream has ended."""
        if event is not None and not stream.ended:
            stream.expected.append(event)

    def stop_or_let_go(self, ticket: ExpectedTicket) -> None:
        """A ticket has ended: its run is stopped when no other ticket wants the result."""
        if ticket.run is None:
            self.let_go(ticket)
        elif all(each.end is not None for each in self._state.tickets_of(ticket.run)):
            self._state.stops.append(ticket.run)

    def let_go(self, ticket: ExpectedTicket) -> None:
        """A ticket needs its sources no longer."""
        for source in ticket.sources:
            source.last_used = self._state.now

    def max_output_bytes(self, stream: ExpectedStream) -> int:
        """What an event of this stream may carry."""
        smallest = stream.max_message_bytes == MIN_MAX_MESSAGE_BYTES
        return SMALL_MESSAGE_BYTES if smallest else stream.max_message_bytes

    def _deliver(self, ticket: ExpectedTicket) -> None:
        """Finish a Fetch whose source is there."""
        (source,) = ticket.sources
        assert source.tensor is not None
        whole = source.tensor.shape
        nbytes = FakeTensor(source.tensor.datatype, part_of(whole, ticket.slices)).nbytes
        if not lies_inside(ticket.slices, whole):
            self.fail(ticket, "INVALID_ARGUMENT")
        elif nbytes > self.max_output_bytes(ticket.stream):
            self.fail(ticket, "RESOURCE_EXHAUSTED", words=("keep it and fetch slices",), retryable=False)
        elif not self._state.accounts.may_send(ticket.stream, nbytes):
            self.fail(ticket, "RESOURCE_EXHAUSTED", words=(f"{nbytes} bytes of output",), retryable=True)
        else:
            ticket.nbytes = nbytes
            self.finish(ticket, "DONE", ExpectedEvent("fetched", ticket.tag))
