"""The core and the oracle, told the same, and compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from headrace.server.core.core import Core, Decision
from headrace.server.core.engine_api import End, Ended, Part, Run, Tensor
from headrace.server.core.events import Done, Event, Failed, Fetched
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import MessageCharge as CoreCargo
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SlotState, TicketState
from headrace.wire.errors import HeadraceError
from headrace.wire.frames import FRAME_BYTES, frame_items
from headrace.wire.tensors import Buffer
from tests.server.core.books import ExpectedEvent, ExpectedStream, ExpectedTicket, KnownCall, MessageCharge
from tests.server.core.oracle import Oracle, Result
from tests.server.core.scenario import FakeTensor
from tests.server.core.turns import MOST


class Pair:
    def __init__(self, limits: Limits, specs: Sequence[ModelSpec], max_calls: int) -> None:
        self.limits = limits
        self.specs = specs
        self.core = Core(limits)
        for spec in specs:
            self.core.models.add(spec)
        self.oracle = Oracle(limits, specs, max_calls)
        self.decision = self.core.decide(0.0)
        """The latest one."""
        self._settled = True
        """The core was told nothing since."""
        self.followed = 0
        """How many followers have been run."""
        self._models = {id(spec): self.core.models.find(spec.name) for spec in specs}

    @property
    def running(self) -> list[Run]:
        """The runs that the runtime has not let go of."""
        return self.oracle.runs()

    # ------------------------------------------------------------------------------------------------- told to both

    def open_stream(self, *, unary: bool, window: int = 0) -> ExpectedStream:
        """A stream of another protocol is `unary` with a `window`."""
        real = self.core.open_stream(unary=unary, window=window)
        stream = self.oracle.open_stream(real, unary=unary, window=window)
        self.compare()
        return stream

    def open(self, stream: ExpectedStream, ordered: bool, max_message: int) -> None:
        self.core.open(stream.real, ordered, max_message)
        self.oracle.open(stream, ordered, max_message)
        self.compare()

    def define(self, stream: ExpectedStream, number: int, call: KnownCall, nbytes: int) -> None:
        self.core.define(stream.real, number, call.call, nbytes)
        self.oracle.define(stream, number, call, nbytes)
        self.compare()

    def reject(self, stream: ExpectedStream, error: HeadraceError) -> None:
        self.core.reject(stream.real, error)
        self.oracle.reject(stream, error.message, code=error.code.name)
        self.compare()

    def charge(self, nbytes: int) -> tuple[MessageCharge, CoreCargo]:
        return MessageCharge(nbytes), self.core.charge(nbytes)

    def infer(
        self,
        stream: ExpectedStream,
        tag: int,
        number: int,
        inline: Sequence[bytes],
        charge: tuple[MessageCharge, CoreCargo],
        sources: Sequence[int],
        timeout: float,
        priority: int,
    ) -> None:
        now = self.oracle.now
        self.core.infer(
            stream.real, tag, number, inline, charge[1], now, sources=sources, timeout=timeout, priority=priority
        )
        ticket = self.oracle.infer(stream, tag, number, inline, charge[0], sources, timeout, priority)
        if ticket is not None:
            ticket.real = stream.real.tickets[tag]
        self.compare()

    def fetch(
        self, stream: ExpectedStream, tag: int, source: int, name: str, slices: tuple[tuple[int, int], ...]
    ) -> None:
        self.core.fetch(stream.real, tag, source, name, slices, self.oracle.now)
        ticket = self.oracle.fetch(stream, tag, source, name, slices)
        if ticket is not None:
            ticket.real = stream.real.tickets[tag]
        self.compare()

    def release(self, stream: ExpectedStream, tag: int, names: Sequence[str]) -> None:
        self.core.release(stream.real, tag, names)
        self.oracle.release(stream, tag, names)
        self.compare()

    def cancel(self, stream: ExpectedStream, tag: int) -> None:
        self.core.cancel(stream.real, tag, self.oracle.now)
        self.oracle.cancel(stream, tag)
        self.compare()

    def half_close(self, stream: ExpectedStream) -> None:
        self.core.half_close(stream.real)
        self.oracle.half_close(stream)
        self.compare()

    def vanish(self, stream: ExpectedStream) -> None:
        self.core.abandon(stream.real, self.oracle.now)
        self.oracle.vanish(stream)
        self.compare()

    def drain(self) -> None:
        self.core.drain(self.oracle.now)
        self.oracle.drain()
        self.compare()

    def take(self, stream: ExpectedStream) -> None:
        events = stream.real.take()
        self.core.handed_off(stream.real, events, self.oracle.now)
        assert [*map(id, events)] == [*map(id, stream.pending[: len(events)])]
        assert 1 <= len(events) <= frame_items(stream.window)
        size = sum(event.nbytes + event.overhead for event in events)
        assert len(events) == 1 or size <= min(FRAME_BYTES, stream.max_message)
        del stream.pending[: len(events)]
        self.oracle.took(stream, events)
        self.compare()

    def written(self, stream: ExpectedStream) -> None:
        self.core.flushed(stream.real)
        self.oracle.wrote(stream)
        self.compare()

    def quiet(self, *, decide: bool) -> None:
        """Nothing has happened for a while. `decide`: and who has waited is seen to before anything else happens."""
        settled = self._settled
        self.core.idle()
        self.oracle.quiet()
        self.compare()
        self.check()
        if decide:
            self.decide()
            assert not (settled and self.decision.waits_for_idle), "it is quiet, and somebody still waits for others"

    def end(self, run: Run, size: int, error: HeadraceError | None, *, spoils: bool = False) -> None:
        """A run ends; `size` is that of dynamic outputs, but where they have the rows of the inputs.

        `spoils`: and its slot cannot be used until it was restored.
        """
        results: list[tuple[list[FakeTensor], list[FakeTensor]]] = [([], [])] * len(run.parts)
        if error:
            ended = Ended(run, error=error, restoring=spoils)
        else:
            tickets = self.oracle.tickets_of(run)
            results = [_outputs(part, ticket.rows or size) for part, ticket in zip(run.parts, tickets, strict=True)]
            ended = Ended(run, [sent for sent, _ in results], [kept for _, kept in results])
        self.core.run_ended(ended, error, self.oracle.now)
        self.oracle.run_ended(run, results, error.code.name if error else None)
        if error and spoils:
            self.oracle.restoring[id(run.spec)].add(run.slot)
        self.compare()

    def restore(self, at: int) -> None:
        """One of the slots that were spoiled can be used again."""
        spoiled = [(spec, slot) for spec in self.specs for slot in sorted(self.oracle.restoring[id(spec)])]
        if spoiled:
            spec, slot = spoiled[at % len(spoiled)]
            self.core.slot_restored(spec, slot)
            self.oracle.restoring[id(spec)].remove(slot)
            self.oracle.tick()
            self.compare()

    def end_with_followers(self, size: int, most: int, error: HeadraceError | None) -> None:
        """The runs of the latest decision end, and what follows them is done at once, up to `most`.

        Nothing happens if one of them has ended or is a batch. The last of all may fail.
        """
        runs = self.decision.starts
        if not runs or any(len(run.parts) > 1 or run not in self.running for run in runs):
            return
        given: list[tuple[Sequence[Tensor], Sequence[Buffer]]] = []
        results: list[Result] = []
        ends: list[End] = []
        following: Run | None = runs[0]
        while following is not None and len(ends) < most:
            (part,) = following.parts
            fails = error if len(ends) == most - 1 else None
            given.append((part.references, part.inline))
            results.append(([], []) if fails else _outputs(part, size))
            sent, kept = results[-1]
            ended = Ended(following, error=fails) if fails else Ended(following, [sent], [kept])
            ends.append(End(ended, fails, self.oracle.now))
            if len(ends) < len(runs):
                following = runs[len(ends)]
            else:
                following = self.core.follower(ended) if self.decision.wake_at > self.oracle.now else None
        counted = self.core.ended_in_place(ends)
        self.followed += max(0, len(counted) - len(runs))
        for number, end in enumerate(ends):
            run = end.ended.run
            counts = any(each is end for each in counted)
            if number >= len(runs):
                with _given(run, *given[number]):
                    self._decide_follower(run, starts=counts)
            if counts:
                self.oracle.run_ended(run, [results[number]], end.error.code.name if end.error else None)
        self.compare()

    def _decide_follower(self, run: Run, *, starts: bool) -> None:
        stops = self.oracle.stops
        has_failed = (lambda _: False) if starts else _has_failed
        self.oracle.decide([run] if starts else [], stops, has_failed, alone=True)
        self.oracle.stops = stops

    def decide(self) -> None:
        decision = self.decision = self.core.decide(self.oracle.now)
        self.oracle.decide(decision.starts, decision.stops, _has_failed)
        self.compare()
        self._settled = True
        told = {id(stream) for stream in decision.changed}
        assert len(told) == len(decision.changed)
        assert all(id(stream.real) in told for stream in self.oracle.streams if stream.is_news)
        for stream in self.oracle.streams:
            stream.is_news = False
        assert not decision.unload
        self._check_waits(decision)

    def _check_waits(self, decision: Decision) -> None:
        """Until when, and for what, nothing is to be decided."""
        due, dues = decision.wake_at, self.oracle.dues()
        assert due > self.oracle.now, "time alone would bring nothing new"
        assert due <= min(dues, default=math.inf)
        may_wait = self.limits.batch_delay or self.limits.coalesce
        waiting = may_wait and any(self.oracle.queued(spec) for spec in self.specs if spec.batch > 1)
        assert due == math.inf or dues or waiting
        for spec in self.specs:
            self.oracle.check_waits(spec, due, gathering=decision.waits_for_idle)

    # ---------------------------------------------------------------------------------------------------- compared

    def compare(self) -> None:
        """What the streams have to say since the last look, with what they must."""
        self._settled = False
        for stream in self.oracle.streams:
            if stream.real.ended:
                stream.pending.clear()
            fresh: list[Event] = [*stream.real.outbox][len(stream.pending) :]
            stream.pending += fresh
            stream.is_news = stream.is_news or bool(fresh)
            expected, stream.expected = stream.expected, []
            if stream.ordered:
                ends = [each.tag for each in expected if each.of_infer]
                ended = [stream.ended_by(event) for event in fresh]
                assert [ticket.tag for ticket in ended if ticket and ticket.infer] == ends
            for event in fresh:
                found = next((each for each in expected if matches(event, each)), None)
                assert found is not None, f"{event} came, expected were {expected}"
                expected.remove(found)
            assert not expected, f"{expected} did not come"
        self.oracle.close_streams()

    def check(self) -> None:
        """What is held, with what must be."""
        for stream in self.oracle.streams:
            real = stream.real
            assert real.ended == stream.ended
            assert real.in_flight == stream.in_flight <= stream.window
            assert set(real.tickets) == {ticket.tag for ticket in stream.tickets if ticket.live}
            assert real.unsent_bytes == stream.unsent
            assert real.keep.used == stream.kept <= self.limits.keep_bytes
            assert [each.tag for each in real.infers] == [ticket.tag for ticket in stream.infers]
            assert [each.tag for each in real.turns] == ([] if stream.ended else [e.tag for e in stream.turns])
            assert stream.ended or real.may_read == (len(stream.pending) < 2 * stream.window)
        assert [*self.core.streams] == [stream.real for stream in self.oracle.streams if not stream.ended]
        assert self.core.keep.used == self.oracle.kept <= self.limits.keep_bytes_total
        assert self.core.queue.used == self.oracle.charge <= self.limits.queue_bytes
        for spec in self.specs:
            self._check_slots(spec)

    def _check_slots(self, spec: ModelSpec) -> None:
        """A slot is free when the runtime has said so, and not before."""
        model = self._models[id(spec)]
        states = [SlotState.FREE] * spec.slots
        for slot in self.oracle.restoring[id(spec)]:
            states[slot] = SlotState.RESTORING
        for run in self.oracle.runs(spec):
            wanted = any(ticket.end is None for ticket in self.oracle.tickets_of(run))
            states[run.slot] = SlotState.RUNNING if wanted else SlotState.STOPPING
        assert model.slots == states
        assert model.queued == len(self.oracle.queued(spec))

    def check_inside(self) -> None:
        """What is inside is bounded by what is live: nothing leaks."""
        completion, execution, kept_outputs = self.core._completion, self.core._execution, self.core._kept_outputs
        tickets = self.oracle.tickets
        assert len(execution._tickets) == len(self.running)
        assert len(completion.timeouts) == sum(ticket.due is not None and ticket.end is None for ticket in tickets)
        assert len(kept_outputs.times) == sum(len(self.oracle.resting(stream)) for stream in self.oracle.streams)
        for deadlines in (completion.timeouts, kept_outputs.times):
            assert len(deadlines._heap) <= 2 * len(deadlines) + 64
        for model in self._models.values():
            levels = [*model._levels.values()]
            assert all(level and all(level.values()) for level in levels)
            lined_up = sum(len(tickets) for level in levels for tickets in level.values())
            assert model.queued == lined_up
            bound = [each for each in tickets if each.infer and each.call and each.call.spec is model.spec]
            assert model.holders == 1 + sum(each.needs_input for each in bound)
        for ticket in tickets:
            real = ticket.real
            assert real is not None
            assert len(real.sources) == (len(ticket.deps) if ticket.holds else 0)
            assert (real.charge is not None) == (ticket.charge is not None and ticket.needs_input)
            assert bool(real.inline) == (bool(ticket.inline) and ticket.needs_input)
            closed = not ticket.live and ticket.run is None
            for kept, out in zip(real.kept, [] if closed else ticket.outs, strict=True):
                waiting = {id(e.real) for e in ticket.stream.holders(out) if e.end is None and out.tensor is None}
                assert {id(waiter) for waiter in kept.waiters} == waiting
                assert (kept.tensor is not None) == (out.tensor is not None and ticket.stream.wanted(out))

    def finish(self) -> None:
        """Run and read everything to the end: nothing may be left of it."""
        for stream in self.oracle.streams[::2]:
            self.half_close(stream)
        left = True
        while left:
            while any(self.oracle.restoring.values()):
                self.restore(0)
            self.decide()
            self.oracle.now += self.limits.batch_delay
            if len(self.oracle.streams) % 2:
                self.quiet(decide=True)
            else:
                self.oracle.now += MOST
            left = bool(self.running) or any(stream.pending for stream in self.oracle.streams)
            left = left or any(self.oracle.queued(spec) for spec in self.specs)
            for run in self.running:
                self.end(run, 4, None)
            for stream in self.oracle.streams:
                while stream.pending:
                    self.take(stream)
                    self.written(stream)
            self.check()
            self.check_inside()
        assert all(stream.in_flight == 0 for stream in self.oracle.streams)
        for stream in self.oracle.streams:
            self.vanish(stream)
        self.decide()
        self.check()
        self.check_inside()
        assert self.core.keep.used == self.core.queue.used == 0
        assert not self.core.streams
        assert not any(
            stream.real.tickets or stream.real.outbox or stream.real._calls for stream in self.oracle.streams
        )
        assert not self.core._completion.changed
        assert not self.core._completion.startable
        assert self.decision.wake_at == (math.inf if self.oracle.grace_ends is None else self.oracle.grace_ends)


def matches(event: Event, expected: ExpectedEvent) -> bool:
    """Whether an event is the one that was expected."""
    kind = type(event).__name__.lower()
    match event:
        case Failed():
            error = event.error
            same = error.code.name in expected.codes and all(word in error.message for word in expected.words)
            same = same and expected.retryable in (None, error.retryable)
            same = same and (not expected.one_of or any(words in error.message for words in expected.one_of))
            return same and (kind, event.tag) == (expected.kind, expected.tag)
        case Done():
            kept = tuple(port.name for port, _ in event.kept)
            return (kind, event.tag, kept) == (expected.kind, expected.tag, expected.kept)
        case Fetched():
            return (kind, event.tag) == (expected.kind, expected.tag)
        case _:
            return kind == expected.kind


def _outputs(part: Part, size: int) -> tuple[list[FakeTensor], list[FakeTensor]]:
    plan = part.plan
    assert plan is not None
    kept = [plan.keep[at] for at in part.keep]
    tensors: dict[int, FakeTensor] = {}
    for each in (*plan.outputs, *kept):
        assert each.shape is not None
        shape = tuple(axis.min if axis.min == axis.max else size for axis in each.shape)
        tensors[each.index] = FakeTensor(each.datatype, shape)
    return [tensors[each.index] for each in plan.outputs], [tensors[each.index] for each in kept]


@contextmanager
def _given(run: Run, references: Sequence[Tensor], inline: Sequence[Buffer]) -> Iterator[None]:
    """Have a ticket that may have ended bring to its run what it brought."""
    (part,) = run.parts
    assert isinstance(part, Ticket)
    before = part.references, part.inline
    part.references, part.inline = references, inline
    yield
    part.references, part.inline = before


def _has_failed(ticket: ExpectedTicket) -> bool:
    assert ticket.real is not None
    return ticket.end is None and ticket.real.state is TicketState.FAILED
