"""What is compared between the core and the reference model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from headrace.server.core.core import Core
from headrace.server.core.counts import ModelCounts
from headrace.server.core.decision import Decision
from headrace.server.core.events import Done, Event, Failed, Fetched
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SlotState, TicketState
from headrace.server.telemetry.metrics.readings import in_flight
from tests.server.core.reference.accounts import ACCOUNTS
from tests.server.core.reference.expected import ExpectedEvent, ExpectedStream, ExpectedTicket
from tests.server.core.reference.model import ReferenceModel
from tests.server.core.reference.state import ExpectedState


def compare_events(stream: ExpectedStream) -> None:
    """The events that a stream has got since the last comparison must be the expected ones."""
    if stream.real.ended:
        stream.outbox.clear()
    fresh: list[Event] = [*stream.real.outbox][len(stream.outbox) :]
    stream.outbox += fresh
    stream.changed = stream.changed or bool(fresh)
    expected, stream.expected = stream.expected, []
    if stream.ordered:
        ended = [stream.ended_by(event) for event in fresh]
        assert [ticket.tag for ticket in ended if ticket and ticket.infer] == [e.tag for e in expected if e.of_infer]
    for event in fresh:
        found = next((each for each in expected if matches(event, each)), None)
        assert found is not None, f"{event} came, expected were {expected}"
        expected.remove(found)
    assert not expected, f"{expected} did not come"


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


def parked(core: Core) -> set[int]:
    """The ids of the tickets that the core has put aside."""
    return {
        id(ticket)
        for model in core.models.with_slots()
        for level in model._levels.values()
        for lines in level.values()
        for line in lines.values()
        if line.parked
        for ticket in line
    }


def pace(core: Core) -> dict[int, float]:
    """The seconds that models have taken for a ticket, by the ids of those that have a bound."""
    return {id(each.spec): each.bounds.pace.seconds for each in core.models.with_slots() if each.bounds is not None}


def has_failed(ticket: ExpectedTicket) -> bool:
    """Whether the core has failed a ticket of which the reference model does not know yet that it must."""
    assert ticket.real is not None
    return ticket.end is None and ticket.real.state is TicketState.FAILED


def check_changed(decision: Decision, state: ExpectedState) -> None:
    """A decision names every stream that has changed, once."""
    named = {id(stream) for stream in decision.changed}
    assert len(named) == len(decision.changed)
    assert all(id(stream.real) in named for stream in state.streams if stream.changed)
    for stream in state.streams:
        stream.changed = False


def check_waits(decision: Decision, reference: ReferenceModel) -> None:
    """A decision says when the next one is to be made, and what for."""
    state = reference.state
    times = [*state.deadlines(), *reference.waits.ends()]
    assert decision.wake_at > state.now, "time alone would bring nothing new"
    assert decision.wake_at <= min(times, default=math.inf)
    may_wait = state.limits.batch_delay or state.limits.coalesce
    waiting = may_wait and any(state.queued(spec) for spec in state.specs if spec.batch > 1)
    assert decision.wake_at == math.inf or times or waiting
    for spec in state.specs:
        reference.waits.check(spec, decision.wake_at, waits_for_idle=decision.waits_for_idle)


def check_held(core: Core, state: ExpectedState) -> None:
    """What streams, quotas and slots hold."""
    for stream in state.streams:
        real = stream.real
        assert real.ended == stream.ended
        assert real.in_flight == stream.in_flight <= stream.window
        assert set(real.tickets) == {ticket.tag for ticket in stream.tickets if ticket.live}
        assert real.unsent_bytes == stream.unsent_bytes
        for account in ACCOUNTS:
            assert getattr(real.shares, account).used == state.accounts.share(account, stream)
        assert real.keep.used <= state.limits.keep_bytes
        assert [each.tag for each in real.infers] == [ticket.tag for ticket in stream.infers]
        assert [each.tag for each in real.turns] == ([] if stream.ended else [e.tag for e in stream.turns])
        most = 16 if state.accounts.exceeds("tickets", stream) else 2 * stream.window
        assert stream.ended or real.may_read == (len(stream.outbox) < min(most, 2 * stream.window))
    assert [*core.streams] == [stream.real for stream in state.streams if not stream.ended]
    for account in ACCOUNTS:
        assert getattr(core.accounts, account).used == state.accounts.used(account)
    assert core.accounts.memory.used == state.accounts.all_used
    assert core.accounts.keep.used <= state.limits.keep_bytes_total
    assert core.accounts.queue.used <= state.limits.queue_bytes
    for spec in state.specs:
        _check_slots(core, state, spec)


def check_counts(core: Core) -> None:
    """How many requests of a model are in flight follows from what is counted."""
    there: dict[ModelCounts, int] = {}
    for stream in core.streams:
        for ticket in stream.infers:
            if ticket.model is not None:
                there[ticket.model.counts] = there.get(ticket.model.counts, 0) + 1
    for counts, number in in_flight(core).items():
        assert number == there.get(counts, 0), counts


def _check_slots(core: Core, state: ExpectedState, spec: ModelSpec) -> None:
    """A slot is free when the runtime has said so, and not before."""
    model = next((each for each in core.models.with_slots() if each.spec is spec), None)
    if model is None:  # a variant that was removed, and unloaded; its slots may still be restored
        assert spec.pruned_to
        assert not any((state.runs(spec), state.queued(spec)))
        return
    expected = [SlotState.FREE] * spec.slots
    for slot in state.restoring[id(spec)]:
        expected[slot] = SlotState.RESTORING
    for run in state.runs(spec):
        wanted = any(ticket.end is None for ticket in state.tickets_of(run))
        expected[run.slot] = SlotState.RUNNING if wanted else SlotState.STOPPING
    assert model.slots == expected
    assert model.queued == len(state.queued(spec))


def check_unloaded(core: Core, state: ExpectedState, unloaded: Sequence[ModelSpec]) -> None:
    """A variant is unloaded once, when it was removed and no ticket needs it."""
    kept = {id(model.spec) for model in core.models.with_slots()}
    gone = [spec for spec in state.specs if id(spec) not in kept]
    assert sorted(map(id, unloaded)) == sorted(map(id, gone))


def check_inside(core: Core, state: ExpectedState) -> None:
    """What the core holds inside is bounded by what is live: nothing leaks."""
    completion, execution, kept_outputs = core._completion, core._execution, core._kept_outputs
    tickets = state.tickets
    assert len(execution._tickets) == len(state.runs())
    assert not execution._processing
    assert not execution._pending
    assert not execution.chaining._ahead
    assert len(completion.timeouts) == sum(ticket.ends_at is not None and ticket.end is None for ticket in tickets)
    assert len(kept_outputs.times) == sum(len(stream.unused_outputs()) for stream in state.streams)
    for deadlines in (completion.timeouts, kept_outputs.times):
        assert len(deadlines._heap) <= 2 * len(deadlines) + 64
    for model in core.models.with_slots():
        _check_turns(model)
        bound = [each for each in tickets if each.infer and each.call and each.call.spec is model.spec]
        assert model.holders == (model not in core.models.retired) + sum(each.needs_input for each in bound)
    for ticket in tickets:
        _check_ticket(ticket)


def _check_turns(model: ModelQueue[Ticket]) -> None:
    """No level, owner or line is empty, and the heaps have an entry for all that are not parked."""
    queued = 0 if model._only is None else 1
    assert not (queued and model._levels)
    for level in model._levels.values():
        _check_heap(level.order, [*level.values()])
        assert level.waiting == sum(lines.waiting for lines in level.values())
        for lines in level.values():
            _check_heap(lines.order, [*lines.values()])
            assert lines.waiting == sum(len(line) for line in lines.values() if not line.parked)
            assert not lines.parked or all(line.parked for line in lines.values())
            for stream, line in lines.items():
                queued += len(line)
                assert not line.parked or (model in stream.passed_over and stream.backpressured)
    assert model.queued == queued
    assert model.waiting == queued - sum(
        len(line)
        for level in model._levels.values()
        for lines in level.values()
        for line in lines.values()
        if line.parked
    )


def _check_heap(order: Sequence[tuple[int, Any]], members: Sequence[Any]) -> None:
    assert members
    assert all(members)
    live = [(turn, id(member)) for turn, member in order if member]
    assert sorted(live) == sorted((member.turn, id(member)) for member in members if not member.parked)
    assert len(order) <= 2 * len(members) + 64


def _check_ticket(ticket: ExpectedTicket) -> None:
    real = ticket.real
    assert real is not None
    assert len(real.sources) == (len(ticket.sources) if ticket.holds_sources else 0)
    assert (real.charge is not None) == (ticket.charge is not None and ticket.needs_input)
    assert bool(real.inline) == (bool(ticket.inline) and ticket.needs_input)
    closed = not ticket.live and ticket.run is None
    for kept, output in zip(real.kept, [] if closed else ticket.outputs, strict=True):
        users = ticket.stream.users(output)
        waiters = {id(each.real) for each in users if each.end is None and output.tensor is None}
        assert {id(waiter) for waiter in kept.waiters} == waiters
        assert (kept.tensor is not None) == (output.tensor is not None and ticket.stream.is_held(output))


def check_nothing_left(core: Core, decision: Decision, state: ExpectedState) -> None:
    """Every client has gone and every run has ended."""
    assert core.accounts.memory.used == 0
    assert not core.streams
    for stream in state.streams:
        assert not stream.real.tickets
        assert not stream.real.outbox
        assert not stream.real._calls
    assert not core._completion.changed
    assert not core._completion.startable
    assert decision.wake_at == (math.inf if state.grace_ends is None else state.grace_ends)
