"""What each command of a client leads to, given what is held at that moment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from headrace.server.core.engine_api import Slices
from headrace.wire.limits import DEFAULT_MAX_MESSAGE_BYTES, MIN_MAX_MESSAGE_BYTES
from headrace.wire.tensors import MAX_RANK
from tests.server.core.reference.accounts import TICKET_BYTES
from tests.server.core.reference.ends import Ends
from tests.server.core.reference.entry import Entry
from tests.server.core.reference.expected import (
    ExpectedCharge,
    ExpectedEvent,
    ExpectedOutput,
    ExpectedStream,
    ExpectedTicket,
    KnownCall,
)
from tests.server.core.reference.shapes import compatible, part_fits, part_of_port, static_bytes
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns

MAX_CALL_BYTES = 4 << 20
MAX_PRIORITY = 9


class Commands:
    def __init__(self, state: ExpectedState, turns: Turns, ends: Ends, max_calls: int) -> None:
        self._state = state
        self._turns = turns
        self._ends = ends
        self._max_calls = max_calls
        self._entry = Entry(state, ends)
        self._numbers = itertools.count()
        self._call_bytes: dict[tuple[int, int], int] = {}
        """The sizes of descriptions, by stream and number."""

    def open(self, stream: ExpectedStream, ordered: bool, max_message_bytes: int) -> None:
        if stream.opened or 0 < max_message_bytes < MIN_MAX_MESSAGE_BYTES:
            self.reject(stream, "Open" if stream.opened else str(max_message_bytes))
        else:
            stream.ordered, stream.max_message_bytes = ordered, max_message_bytes or DEFAULT_MAX_MESSAGE_BYTES
        stream.opened = True

    def define(self, stream: ExpectedStream, number: int, call: KnownCall, nbytes: int) -> None:
        stream.opened = True
        if stream.ended:
            return
        if number == 0:
            self.reject(stream, "number 0")
            return
        stream.calls.pop(number, None)
        stream.definitions.pop(number, None)
        self._call_bytes.pop((id(stream), number), None)
        others = sum(n for (of, _), n in self._call_bytes.items() if of == id(stream))
        if len(stream.calls) == self._max_calls or others + nbytes > MAX_CALL_BYTES:
            self.reject(stream, str(number), code="RESOURCE_EXHAUSTED")
            return
        charged = nbytes + call.call.memory_bytes
        if self._state.accounts.fits("definitions", stream, charged):
            stream.calls[number], stream.definitions[number] = call, charged
            self._call_bytes[id(stream), number] = nbytes
        else:
            self.reject(stream, str(number), code="RESOURCE_EXHAUSTED")

    def reject(self, stream: ExpectedStream, *words: str, code: str = "INVALID_ARGUMENT") -> None:
        stream.opened = True
        self._ends.expect(stream, ExpectedEvent("failed", 0, frozenset({code}), words))

    def infer(
        self,
        stream: ExpectedStream,
        tag: int,
        number: int,
        inline: Sequence[bytes],
        charge: ExpectedCharge,
        sources: Sequence[int],
        slices: Sequence[Slices],
        timeout: float,
        priority: int,
    ) -> ExpectedTicket | None:
        """The ticket, if it is admitted."""
        self._state.tick()
        stream.opened = True
        if self._refused(stream, tag, infer=True, charge=charge if inline else None):
            return None
        call = stream.calls.get(number)
        codes, found = self._problems(stream, call, inline, sources, slices, priority)
        if not codes and call is not None and all(source.tensor is not None for source in found):
            counts = min(priority, self._state.limits.max_priority)
            if self._entry.refuses(stream, tag, self._state.bound(call).spec, counts):
                return None
        ticket = self._admit(stream, tag, infer=True)
        if codes or call is None:
            self._ends.fail(ticket, *codes)
            return ticket
        ticket.call, ticket.inline = self._state.bound(call), inline
        ticket.priority = min(priority, self._state.limits.max_priority)
        ticket.charge = charge if inline else None
        kept = ticket.call.keep
        ports = [*((port, False) for port in kept), *((port, True) for port in call.keep_inputs)]
        ticket.outputs = [
            ExpectedOutput(ticket, port, is_input, call.kept_bytes(position))
            for position, (port, is_input) in enumerate(ports)
        ]
        ticket.due = self._state.now + timeout if timeout else None
        ticket.sources, ticket.parts = found, [*slices] or [()] * len(found)
        for (_, _, take), source in zip(call.references, found, strict=True):
            source.owned = source.owned and not take
        self._turns.inherit_priority(ticket)
        self._ends.go_on(stream)
        return ticket

    def fetch(
        self, stream: ExpectedStream, tag: int, source: int, name: str, slices: tuple[tuple[int, int], ...]
    ) -> ExpectedTicket | None:
        """The ticket, if it is admitted."""
        stream.opened = True
        if self._refused(stream, tag, infer=False, charge=None):
            return None
        ticket = self._admit(stream, tag, infer=False)
        output = stream.find(source, name)
        if output is None:
            self._ends.fail(ticket, "NOT_FOUND", words=(str(source), repr(name)))
        elif len(slices) > MAX_RANK:
            self._ends.fail(ticket, "INVALID_ARGUMENT", words=(f"more than {MAX_RANK} slices",))
        else:
            ticket.sources, ticket.slices = [output], slices
            self._ends.go_on(stream)
        return ticket

    def release(self, stream: ExpectedStream, tag: int, names: Sequence[str]) -> None:
        stream.opened = True
        ticket = stream.live(tag)
        for output in ticket.outputs if ticket is not None else ():
            if not names or set(names) & set(output.port.names):
                output.owned = False

    def cancel(self, stream: ExpectedStream, tag: int) -> None:
        stream.opened = True
        ticket = stream.live(tag)
        if ticket is not None and ticket.end is None:
            self._ends.fail(ticket, "CANCELLED", words=(str(tag),))

    def _refused(self, stream: ExpectedStream, tag: int, *, infer: bool, charge: ExpectedCharge | None) -> bool:
        state = self._state
        full = stream.in_flight >= stream.window
        more = charge.nbytes if charge is not None and not state.is_charged(charge) else None
        over_budget = more is not None and not state.accounts.fits("queue", stream, more)
        full = full or not state.accounts.fits("tickets", stream, TICKET_BYTES)
        never = more is not None and more > min(state.limits.queue_bytes, state.limits.memory)
        if stream.ended:
            return True
        if tag == 0 or stream.live(tag):
            event = ExpectedEvent("failed", 0, frozenset({"INVALID_ARGUMENT"}), (str(tag),), retryable=False)
        elif infer and state.draining:
            event = ExpectedEvent("failed", tag, frozenset({"UNAVAILABLE"}), retryable=True)
        elif full or over_budget:
            event = ExpectedEvent("failed", tag, frozenset({"RESOURCE_EXHAUSTED"}), retryable=full or not never)
        else:
            return False
        self._ends.expect(stream, event)
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
        slices: Sequence[Slices],
        priority: int,
    ) -> tuple[set[str], list[ExpectedOutput]]:
        """Every code that an Infer may fail with at once, and its sources."""
        if call is None:
            return {"INVALID_ARGUMENT"}, []
        if call.wrong is not None:
            return {call.wrong}, []
        codes: set[str] = set()
        if priority > MAX_PRIORITY or [len(data) for data in inline] != [*call.sizes]:
            codes.add("INVALID_ARGUMENT")
        sizes = [static_bytes(port) for port in call.outputs]
        if None not in sizes and sum(size or 0 for size in sizes) > self._ends.max_output_bytes(stream):
            codes.add("RESOURCE_EXHAUSTED")
        if len(sources) != len(call.references):
            return codes | {"INVALID_ARGUMENT"}, []
        if sources and slices and len(slices) != len(sources):
            return codes | {"INVALID_ARGUMENT"}, []
        if any(len(part) > MAX_RANK for part in slices):
            codes.add("INVALID_ARGUMENT")
        found: list[ExpectedOutput] = []
        parts = slices or [()] * len(sources)
        for (port, name, _), tag, part in zip(call.references, sources, parts, strict=True):
            output = stream.find(tag, name)
            if output is None:
                codes.add("FAILED_PRECONDITION")
                continue
            found.append(output)
            known = part_of_port(output.port, part)
            fitting = known is not None and compatible(known, port)
            if not fitting or (output.tensor is not None and not part_fits(output.tensor.shape, part, port)):
                codes.add("INVALID_ARGUMENT")
        return codes, found
