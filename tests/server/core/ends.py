"""How tickets end and go on, as the rules say it."""

from __future__ import annotations

from dataclasses import replace

from tests.server.core.books import BIG, ExpectedEvent, ExpectedStream, ExpectedTicket, fits
from tests.server.core.scenario import FakeTensor
from tests.server.core.turns import Turns


class Ends(Turns):
    def expire(self) -> None:
        late = [e for e in self.tickets if e.due is not None and e.end is None and e.due <= self.now]
        for ticket in sorted(late, key=lambda e: (e.due, e.number)):
            if ticket.end is None:
                self.fail(ticket, "DEADLINE_EXCEEDED", words=(str(ticket.tag),))
        for stream in self.streams:
            for out in self.resting(stream):
                if out.used + self.limits.keep_seconds <= self.now:
                    out.owned = False
        if self.grace_ends is not None and self.now >= self.grace_ends:
            self.grace_ends = None
            # The newest first, so that nothing fails for want of its source.
            for ticket in reversed(self.tickets):
                if ticket.end is None and not ticket.stream.ended:
                    self.fail(ticket, "UNAVAILABLE", retryable=True)
                for out in ticket.outs:
                    out.owned = False

    def wake(self, stream: ExpectedStream) -> None:
        """Go on with what has waited for an output that is there."""
        for ticket in list(stream.tickets):
            if ticket.end is not None or ticket.ready is not None or any(out.tensor is None for out in ticket.deps):
                continue
            if not ticket.infer:
                self.deliver(ticket)
                continue
            assert ticket.call is not None
            pairs = zip(ticket.call.references, ticket.deps, strict=True)
            if all(out.tensor is not None and fits(out.tensor.shape, port) for (port, _, _), out in pairs):
                self.queue(ticket)
            else:
                self.fail(ticket, "INVALID_ARGUMENT", words=("has shape",))

    def deliver(self, ticket: ExpectedTicket) -> None:
        (out,) = ticket.deps
        assert out.tensor is not None
        shape = list(out.tensor.shape)
        inside = len(ticket.slices) <= len(shape) and all(
            0 <= start <= stop <= size for (start, stop), size in zip(ticket.slices, shape, strict=False)
        )
        for at, (start, stop) in enumerate(ticket.slices[: len(shape)]):
            shape[at] = stop - start
        nbytes = FakeTensor(out.tensor.datatype, tuple(shape)).nbytes
        if not inside:
            self.fail(ticket, "INVALID_ARGUMENT")
        elif nbytes > self.most(ticket.stream):
            self.fail(ticket, "RESOURCE_EXHAUSTED", words=("keep it and fetch slices",), retryable=False)
        else:
            ticket.nbytes = nbytes
            self.finish(ticket, "DONE", ExpectedEvent("fetched", ticket.tag))

    def fail(
        self,
        ticket: ExpectedTicket,
        *codes: str,
        words: tuple[str, ...] = (),
        one_of: frozenset[str] = frozenset(),
        retryable: bool | None = None,
    ) -> None:
        said = ExpectedEvent("failed", ticket.tag, frozenset(codes), words, one_of, retryable)
        self.finish(ticket, codes[0], said)
        self.stop_or_leave(ticket)
        for out in ticket.outs:
            out.owned = False
        for other in ticket.stream.tickets:
            lost = [out for out in other.deps if out.ticket is ticket]
            if lost and other.end is None:
                code = "FAILED_PRECONDITION" if other.infer else "NOT_FOUND"
                # Which of several comes first is not said anywhere.
                missing = [out for out in other.deps if out.tensor is None]
                names = frozenset(f"output {out.port.name!r} of ticket {out.ticket.tag} " for out in missing)
                self.fail(other, code, one_of=names, retryable=False)

    def finish(self, ticket: ExpectedTicket, end: str, said: ExpectedEvent) -> None:
        ticket.end, ticket.said = end, replace(said, of_infer=ticket.infer)
        stream = ticket.stream
        if not (ticket.infer and stream.ordered):
            self.say(stream, ticket.said)
        while stream.turns and stream.turns[0].said is not None:
            self.say(stream, stream.turns.pop(0).said)

    def say(self, stream: ExpectedStream, said: ExpectedEvent | None) -> None:
        if said is not None and not stream.ended:
            stream.expected.append(said)

    def stop_or_leave(self, ticket: ExpectedTicket) -> None:
        if ticket.run is None:
            self.leave(ticket)
        elif all(each.end is not None for each in self.tickets_of(ticket.run)):
            self.stops.append(ticket.run)

    def leave(self, ticket: ExpectedTicket) -> None:
        """It has no use for its sources any more."""
        for out in ticket.deps:
            out.used = self.now

    def most(self, stream: ExpectedStream) -> int:
        return BIG if stream.max_message == 64 << 10 else stream.max_message
