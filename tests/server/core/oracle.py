"""The rules of the stream, told command by command: what each must lead to, given what is held at that moment."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from headrace.server.core.engine_api import Part, Run
from headrace.server.core.events import Event
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Stream
from tests.server.core.books import (
    MIN_CHARGE_BYTES,
    ExpectedEvent,
    ExpectedOutput,
    ExpectedStream,
    ExpectedTicket,
    KnownCall,
    MessageCharge,
    compatible,
    fits,
    nbytes_of,
)
from tests.server.core.ends import Ends
from tests.server.core.scenario import FakeTensor

DEFAULT_MAX_MESSAGE = 4 << 20
MAX_CALL_BYTES = 4 << 20
Result = tuple[Sequence[FakeTensor], Sequence[FakeTensor]]
"""What is sent, and what is kept."""


class Oracle(Ends):
    def __init__(self, limits: Limits, specs: Sequence[ModelSpec], max_calls: int) -> None:
        super().__init__(limits, specs)
        self._max_calls = max_calls
        self._numbers = itertools.count()
        self._call_bytes: dict[tuple[int, int], int] = {}

    # ------------------------------------------------------------------------------------------------------ streams

    def open_stream(self, real: Stream, *, unary: bool, window: int) -> ExpectedStream:
        window = window or (1 if unary else self.limits.window)
        stream = ExpectedStream(real, window, unary, draining=self.draining)
        self.streams.append(stream)
        if not unary:
            self.say(stream, ExpectedEvent("hello", 0))
            if self.draining:
                self.say(stream, ExpectedEvent("draining", 0))
        return stream

    def half_close(self, stream: ExpectedStream) -> None:
        stream.half_closed = True
        for out in stream.outputs:
            out.owned = False

    def vanish(self, stream: ExpectedStream) -> None:
        stream.ended = True
        stream.is_news = False
        for ticket in stream.tickets:
            if ticket.end is None:
                ticket.end = "CANCELLED"
                self.stop_or_leave(ticket)
            ticket.handed = True
            for out in ticket.outs:
                out.owned = False
            if not ticket.infer:
                self.leave(ticket)

    def drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        self.grace_ends = self.now + self.limits.grace
        for stream in self.streams:
            if not stream.ended:
                stream.draining = True
                if not stream.unary:
                    self.say(stream, ExpectedEvent("draining", 0))

    def took(self, stream: ExpectedStream, events: Sequence[Event]) -> None:
        for event in events:
            ticket = stream.ended_by(event)
            stream.taken.append((event, ticket))
            if ticket is not None:
                held, ticket.handed = ticket.holds, True
                if held and not ticket.holds:
                    self.leave(ticket)

    def wrote(self, stream: ExpectedStream) -> None:
        for _, ticket in stream.taken:
            if ticket is not None:
                ticket.written = True
        stream.taken.clear()

    def close_streams(self) -> None:
        """End the streams that have nothing to say any more. A unary call's is closed by its front."""
        for stream in self.streams:
            over = not stream.ended and not stream.in_flight and not stream.pending
            kept = any(out.owned for out in stream.outputs)
            over = over and (stream.half_closed or (stream.draining and not kept))
            if over and stream.unary and not stream.half_closed:
                over = stream.real.ended
            stream.ended = stream.ended or over
            stream.is_news = stream.is_news or over
            stream.prune()

    # ------------------------------------------------------------------------------------------------------ commands

    def open(self, stream: ExpectedStream, ordered: bool, max_message: int) -> None:
        if stream.begun or 0 < max_message < 64 << 10:
            self.reject(stream, "Open" if stream.begun else str(max_message))
        else:
            stream.ordered, stream.max_message = ordered, max_message or DEFAULT_MAX_MESSAGE
        stream.begun = True

    def define(self, stream: ExpectedStream, number: int, call: KnownCall, nbytes: int) -> None:
        stream.begun = True
        if stream.ended:
            return
        others = sum(n for (of, each), n in self._call_bytes.items() if of == id(stream) and each != number)
        if number == 0:
            self.reject(stream, "number 0")
        elif (number not in stream.calls and len(stream.calls) == self._max_calls) or others + nbytes > MAX_CALL_BYTES:
            self.reject(stream, str(number), code="RESOURCE_EXHAUSTED")
        else:
            stream.calls[number] = call
            self._call_bytes[id(stream), number] = nbytes

    def reject(self, stream: ExpectedStream, *words: str, code: str = "INVALID_ARGUMENT") -> None:
        stream.begun = True
        self.say(stream, ExpectedEvent("failed", 0, frozenset({code}), words))

    def infer(
        self,
        stream: ExpectedStream,
        tag: int,
        number: int,
        inline: Sequence[bytes],
        charge: MessageCharge,
        sources: Sequence[int],
        timeout: float,
        priority: int,
    ) -> ExpectedTicket | None:
        """The ticket, if it is admitted."""
        self.tick()
        stream.begun = True
        if self._refused(stream, tag, infer=True, charge=charge if inline else None):
            return None
        ticket = self._admit(stream, tag, infer=True)
        call = stream.calls.get(number)
        problems, found = self._problems(stream, call, inline, sources, priority)
        if problems or call is None:
            self.fail(ticket, *problems)
            return ticket
        ticket.call, ticket.priority, ticket.inline = call, priority, inline
        ticket.charge = charge if inline else None
        ticket.outs = [ExpectedOutput(ticket, port) for port in call.keep]
        ticket.due = self.now + timeout if timeout else None
        ticket.deps = found
        for (_, _, take), out in zip(call.references, found, strict=True):
            out.owned = out.owned and not take
        self.inherit(ticket)
        self.wake(stream)
        return ticket

    def fetch(
        self, stream: ExpectedStream, tag: int, source: int, name: str, slices: tuple[tuple[int, int], ...]
    ) -> ExpectedTicket | None:
        stream.begun = True
        if self._refused(stream, tag, infer=False, charge=None):
            return None
        ticket = self._admit(stream, tag, infer=False)
        out = stream.find(source, name)
        if out is None:
            self.fail(ticket, "NOT_FOUND", words=(str(source), repr(name)))
            return ticket
        if len(slices) > 32:
            self.fail(ticket, "INVALID_ARGUMENT", words=(str(len(slices)),))
            return ticket
        ticket.deps, ticket.slices = [out], slices
        self.wake(stream)
        return ticket

    def release(self, stream: ExpectedStream, tag: int, names: Sequence[str]) -> None:
        stream.begun = True
        ticket = stream.live(tag)
        for out in ticket.outs if ticket is not None else ():
            if not names or set(names) & set(out.port.names):
                out.owned = False

    def cancel(self, stream: ExpectedStream, tag: int) -> None:
        stream.begun = True
        ticket = stream.live(tag)
        if ticket is not None and ticket.end is None:
            self.fail(ticket, "CANCELLED", words=(str(tag),))

    # ------------------------------------------------------------------------------------------------ runs and time

    def run_ended(self, run: Run, results: Sequence[Result], error: str | None) -> None:
        """A run has ended: with a result for each of its tickets, or with an error."""
        self.stops = [each for each in self.stops if each is not run]
        tickets = self.tickets_of(run)
        if error is not None and len(tickets) > 1:
            for ticket in tickets:
                if ticket.end is not None:
                    ticket.run = None
                    self.leave(ticket)
            self.put_back([ticket for ticket in tickets if ticket.end is None])
            return
        for ticket, (sent, kept) in zip(tickets, results, strict=True):
            self._part_ended(ticket, sent, kept, error)

    def decide(
        self,
        starts: Sequence[Run],
        stops: Sequence[Run],
        has_failed: Callable[[ExpectedTicket], bool],
        *,
        alone: bool = False,
    ) -> None:
        """Compare what was decided with whose turn it was.

        Which of two models comes first is not said anywhere; so it is asked for `has_failed` whether a ticket got no
        slot because the quota was used up, and checked that it may have been. `alone`: of others nothing was decided.
        """
        self.expire()
        self.tick()
        runs = [(run, self.tickets_of(run)) for run in starts]
        ahead = [(ticket, run, part) for run, tickets in runs for ticket, part in zip(tickets, run.parts, strict=True)]
        assert len({id(ticket) for ticket, _, _ in ahead}) == len(ahead)
        orders = {
            id(spec): self.order(spec, [tickets for run, tickets in runs if run.spec is spec], has_failed, alone=alone)
            for spec in self.specs
        }
        reserved = {id(stream): stream.kept for stream in self.streams}
        for ticket, _, _ in ahead:
            reserved[id(ticket.stream)] += sum(max(MIN_CHARGE_BYTES, out.static) for out in ticket.outs)
        while ahead or any(orders.values()):
            turns = [order[0] for order in orders.values() if order]
            starved = [ticket for ticket in turns if has_failed(ticket)]
            equals = orders[id(ahead[0][1].spec)][:1] if ahead else []
            if ahead and self._is_next(ahead[0][0], ahead[0][2], equals, starved):
                ticket, run, part = ahead.pop(0)
                self._start(ticket, run, part)
            else:
                assert starved, f"{ahead[0]} started, and it was the turn of {turns}"
                ticket = next((ticket for ticket in starved if ticket in equals), starved[0])
                self._starve(ticket, reserved)
            assert ticket.call is not None
            orders[id(ticket.call.spec)].remove(ticket)
        assert len(stops) == len({id(run) for run in stops})
        assert {id(run) for run in stops} == {id(run) for run in self.stops}
        self.stops = []

    # -------------------------------------------------------------------------------------------------------- inside

    def _part_ended(
        self, ticket: ExpectedTicket, sent: Sequence[FakeTensor], kept: Sequence[FakeTensor], error: str | None
    ) -> None:
        self.tick()
        stream = ticket.stream
        charged = {out: stream.charge(out) for out in ticket.outs}
        room = min(self.limits.keep_bytes - stream.kept, self.limits.keep_bytes_total - self.kept)
        ticket.run = None
        if ticket.end is None:
            nbytes = sum(tensor.nbytes for tensor in sent)
            arrived = [(ticket.outs[at], tensor) for at, tensor in zip(ticket.keeps, kept, strict=not error)]
            arrived = [(out, tensor) for out, tensor in arrived if stream.wanted(out)]
            more = sum(max(0, max(MIN_CHARGE_BYTES, tensor.nbytes) - charged[out]) for out, tensor in arrived)
            if error is not None:
                self.fail(ticket, error)
            elif nbytes > self.most(stream):
                self.fail(ticket, "RESOURCE_EXHAUSTED", words=("keep it and fetch slices",), retryable=False)
            elif more > room:
                self.fail(ticket, "RESOURCE_EXHAUSTED", words=(str(ticket.tag),), retryable=True)
            else:
                for out, tensor in arrived:
                    out.tensor = tensor
                    out.used = self.now
                ticket.nbytes = nbytes
                names = tuple(out.port.name for out in ticket.outs if out.owned)
                self.finish(ticket, "DONE", ExpectedEvent("done", ticket.tag, kept=names))
        self.leave(ticket)
        self.wake(stream)

    def _is_next(
        self, ticket: ExpectedTicket, part: Part, equals: Sequence[ExpectedTicket], starved: Sequence[ExpectedTicket]
    ) -> bool:
        """Whether a ticket started before the others got no slot: some of them may have wanted its outputs."""
        return ticket in equals and (not starved or [*part.keep] == self._wanted(ticket))

    def _start(self, ticket: ExpectedTicket, run: Run, part: Part) -> None:
        assert ticket.call is not None
        spec = ticket.call.spec
        assert run.slot in range(spec.slots)
        assert run.slot not in {each.slot for each in self.runs(spec) if each is not run}
        assert run.spec is spec
        assert part.plan is not None
        assert part.plan.spec is spec
        assert ticket.due is None or ticket.due > self.now
        assert all(tensor is not None for tensor in part.references)
        assert [id(tensor) for tensor in part.references] == [id(out.tensor) for out in ticket.deps]
        assert [*map(id, part.inline)] == [*map(id, ticket.inline)]
        assert [*part.keep] == self._wanted(ticket)
        assert len(run.parts) == 1 or part.rows == ticket.rows > 0
        self.served(ticket)
        ticket.run, ticket.keeps = run, [*part.keep]
        for at, out in enumerate(ticket.outs):
            out.promised = at in part.keep

    def _wanted(self, ticket: ExpectedTicket) -> list[int]:
        return [at for at, out in enumerate(ticket.outs) if ticket.stream.wanted(out)]

    def _starve(self, ticket: ExpectedTicket, reserved: dict[int, int]) -> None:
        need = sum(max(MIN_CHARGE_BYTES, out.static) for out in ticket.outs if ticket.stream.wanted(out))
        mine, all_of_them = reserved[id(ticket.stream)], sum(reserved.values())
        assert mine + need > self.limits.keep_bytes or all_of_them + need > self.limits.keep_bytes_total
        self.served(ticket)
        self.fail(ticket, "RESOURCE_EXHAUSTED", words=(str(ticket.tag),), retryable=True)

    def _refused(self, stream: ExpectedStream, tag: int, *, infer: bool, charge: MessageCharge | None) -> bool:
        full = stream.in_flight >= stream.window
        held = charge is None or any(each is charge for each in self.cargos())
        if stream.ended:
            return True
        if tag == 0 or stream.live(tag):
            self.say(stream, ExpectedEvent("failed", 0, frozenset({"INVALID_ARGUMENT"}), (str(tag),), retryable=False))
        elif infer and self.draining:
            self.say(stream, ExpectedEvent("failed", tag, frozenset({"UNAVAILABLE"}), retryable=True))
        elif full or (charge is not None and not held and self.charge + charge.nbytes > self.limits.queue_bytes):
            self.say(stream, ExpectedEvent("failed", tag, frozenset({"RESOURCE_EXHAUSTED"}), retryable=True))
        else:
            return False
        return True

    def _admit(self, stream: ExpectedStream, tag: int, *, infer: bool) -> ExpectedTicket:
        ticket = ExpectedTicket(stream, tag, next(self._numbers), infer)
        stream.tickets.append(ticket)
        if infer and stream.ordered:
            stream.turns.append(ticket)
        return ticket

    def _problems(
        self,
        stream: ExpectedStream,
        call: KnownCall | None,
        inline: Sequence[bytes],
        sources: Sequence[int],
        priority: int,
    ) -> tuple[set[str], list[ExpectedOutput]]:
        """Every code that an Infer may fail with at once, and its sources."""
        if call is None:
            return {"INVALID_ARGUMENT"}, []
        if call.wrong is not None:
            return {call.wrong}, []
        problems = {"INVALID_ARGUMENT"} if priority > 9 or [len(data) for data in inline] != [*call.sizes] else set()
        sizes = [nbytes_of(port) for port in call.outputs]
        if None not in sizes and sum(size or 0 for size in sizes) > self.most(stream):
            problems.add("RESOURCE_EXHAUSTED")
        if len(sources) != len(call.references):
            return problems | {"INVALID_ARGUMENT"}, []
        found: list[ExpectedOutput] = []
        for (port, name, _), tag in zip(call.references, sources, strict=True):
            out = stream.find(tag, name)
            if out is None:
                problems.add("FAILED_PRECONDITION")
                continue
            found.append(out)
            if not compatible(out.port, port) or (out.tensor is not None and not fits(out.tensor.shape, port)):
                problems.add("INVALID_ARGUMENT")
        return problems, found
