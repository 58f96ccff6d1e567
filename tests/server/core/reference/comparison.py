"""The core and the reference model, told the same, and compared."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.core import Core
from headrace.server.core.engine_api import Ended, Run, Slices
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import MessageCharge
from headrace.server.core.specs import ModelSpec
from headrace.wire.errors import HeadraceError
from headrace.wire.frames import FRAME_BYTES, frame_items
from tests.server.core.model_specs import outputs_of
from tests.server.core.reference import checks
from tests.server.core.reference.execution import Result
from tests.server.core.reference.expected import ExpectedCharge, ExpectedStream, KnownCall
from tests.server.core.reference.model import ReferenceModel
from tests.server.core.reference.waits import MAX_WAIT_SECONDS

Charge = tuple[ExpectedCharge, MessageCharge]


class Comparison:
    """Events are compared after each step; `check` compares everything that is held, and looks for leaks."""

    def __init__(self, limits: Limits, specs: Sequence[ModelSpec], max_calls: int) -> None:
        self.core = Core(limits)
        for spec in specs:
            self.core.models.add(spec)
        self.reference = ReferenceModel(limits, specs, max_calls)
        self.state = self.reference.state
        self.decision = self.core.decide(0.0)
        """The latest one."""
        self._unloaded: list[ModelSpec] = []
        self._settled = True
        """The core was told nothing since."""

    @property
    def running(self) -> list[Run]:
        """The runs of which the runtime has not let go."""
        return self.state.runs()

    # ---------------------------------------------------------------------------------------------------- commands

    def open(self, stream: ExpectedStream, ordered: bool, max_message_bytes: int) -> None:
        self.core.open(stream.real, ordered, max_message_bytes)
        self.reference.commands.open(stream, ordered, max_message_bytes)
        self.compare()

    def define(self, stream: ExpectedStream, number: int, call: KnownCall, nbytes: int) -> None:
        self.core.define(stream.real, number, call.call, nbytes)
        self.reference.commands.define(stream, number, call, nbytes)
        self.compare()

    def reject(self, stream: ExpectedStream, error: HeadraceError) -> None:
        self.core.reject(stream.real, error)
        self.reference.commands.reject(stream, error.message, code=error.code.name)
        self.compare()

    def charge(self, stream: ExpectedStream, nbytes: int) -> Charge:
        return ExpectedCharge(nbytes), self.core.charge(stream.real, nbytes)

    def infer(
        self,
        stream: ExpectedStream,
        tag: int,
        number: int,
        inline: Sequence[bytes],
        charge: Charge,
        sources: Sequence[int],
        slices: Sequence[Slices],
        timeout: float,
        priority: int,
    ) -> None:
        expected, real = charge
        self.state.parked, self.state.pace = checks.parked(self.core), checks.pace(self.core)
        self.core.infer(
            stream.real,
            tag,
            number,
            inline,
            real,
            self.state.now,
            sources=sources,
            slices=slices,
            timeout=timeout,
            priority=priority,
        )
        ticket = self.reference.commands.infer(
            stream, tag, number, inline, expected, sources, slices, timeout, priority
        )
        if ticket is not None:
            ticket.real = stream.real.tickets[tag]
        self.compare()

    def fetch(
        self, stream: ExpectedStream, tag: int, source: int, name: str, slices: tuple[tuple[int, int], ...]
    ) -> None:
        self.core.fetch(stream.real, tag, source, name, slices, self.state.now)
        ticket = self.reference.commands.fetch(stream, tag, source, name, slices)
        if ticket is not None:
            ticket.real = stream.real.tickets[tag]
        self.compare()

    def release(self, stream: ExpectedStream, tag: int, names: Sequence[str]) -> None:
        self.core.release(stream.real, tag, names)
        self.reference.commands.release(stream, tag, names)
        self.compare()

    def cancel(self, stream: ExpectedStream, tag: int) -> None:
        self.core.cancel(stream.real, tag, self.state.now)
        self.reference.commands.cancel(stream, tag)
        self.compare()

    # ----------------------------------------------------------------------------------------------------- streams

    def open_stream(self, owner: int, *, unary: bool, window: int = 0) -> ExpectedStream:
        """A stream of another protocol is `unary` with a `window`."""
        real = self.core.open_stream(owner, unary=unary, window=window)
        stream = self.reference.open_stream(real, owner, unary=unary, window=window)
        self.compare()
        return stream

    def half_close(self, stream: ExpectedStream) -> None:
        self.core.half_close(stream.real)
        self.reference.half_close(stream)
        self.compare()

    def abandon(self, stream: ExpectedStream) -> None:
        self.core.abandon(stream.real, self.state.now)
        self.reference.abandon(stream)
        self.compare()

    def drain(self) -> None:
        self.core.drain(self.state.now)
        self.reference.drain()
        self.compare()

    def take(self, stream: ExpectedStream) -> None:
        """Hand the next frame to the transport."""
        settled, before = self._settled and self.state.now < self.decision.wake_at, self.decision
        events = stream.real.take()
        undecided = self.core.handed_off(stream.real, events, self.state.now)
        assert [*map(id, events)] == [*map(id, stream.outbox[: len(events)])]
        assert 1 <= len(events) <= frame_items(stream.window)
        size = sum(event.nbytes + event.overhead for event in events)
        assert len(events) == 1 or size <= min(FRAME_BYTES, stream.max_message_bytes)
        del stream.outbox[: len(events)]
        self.reference.handed_off(stream, events)
        self.compare()
        if settled and not undecided:
            self.decide()
            assert not any(self.decision[:4]), f"{self.decision} was left to decide"
            assert self.decision.wake_at >= before.wake_at
            assert self.decision.waits_for_idle == before.waits_for_idle

    def flush(self, stream: ExpectedStream) -> None:
        """The transport has written what was taken."""
        self.core.flushed(stream.real)
        self.reference.flushed(stream)
        self.compare()

    # ------------------------------------------------------------------------------------------------ runs and time

    def idle(self, *, decide: bool) -> None:
        """The event loop is idle. `decide`: and the core decides before anything else happens."""
        settled = self._settled
        self.core.idle()
        self.reference.waits.idle()
        self.compare()
        self.check()
        if decide:
            self.decide()
            assert not (settled and self.decision.waits_for_idle), "tickets wait for others although the loop was idle"

    def end(self, run: Run, size: int, error: HeadraceError | None, *, spoils: bool = False) -> None:
        """A run ends. `size` is that of dynamic outputs, except where they have the rows of the inputs.

        `spoils`: its slot cannot be used before it is restored.
        """
        results: list[Result] = [([], [])] * len(run.parts)
        if error:
            ended = Ended(run, error=error, restoring=spoils)
        else:
            tickets = self.state.tickets_of(run)
            results = [outputs_of(part, size=t.rows or size) for part, t in zip(run.parts, tickets, strict=True)]
            ended = Ended(run, [sent for sent, _ in results], [kept for _, kept in results])
        self.core.run_ended(ended, error, self.state.now)
        self.reference.execution.run_ended(run, results, error.code.name if error else None)
        if error and spoils:
            self.state.restoring[id(run.spec)].add(run.slot)
        self.compare()

    def restore(self, at: int) -> None:
        """One of the slots that were spoiled can be used again."""
        restoring = self.state.restoring
        spoiled = [(spec, slot) for spec in self.state.specs for slot in sorted(restoring[id(spec)])]
        if spoiled:
            spec, slot = spoiled[at % len(spoiled)]
            self.core.slot_restored(spec, slot)
            restoring[id(spec)].remove(slot)
            self.state.tick()
            self.compare()

    def add_variant(self, spec: ModelSpec, variant: ModelSpec) -> None:
        """New calls are bound to a variant of a model."""
        self.core.models.add_variant(self.core.models.find(spec.name), variant)
        self.state.add_variant(spec, variant)
        self.compare()

    def remove_variant(self, at: int) -> None:
        """Calls are bound to a model again, instead of to one of its variants."""
        spec, variant = self.state.variants.pop(at % len(self.state.variants))
        model = self.core.models.find(spec.name)
        (queue,) = (each for each in model.variants if each.spec is variant)
        self.core.models.remove_variant(model, queue)
        self.compare()

    def decide(self, *, direct: bool = True) -> None:
        decision = self.decision = self.core.decide(self.state.now, direct=direct)
        self._unloaded += decision.unload
        checks.check_unloaded(self.core, self.state, self._unloaded)
        self.reference.decide(decision.starts, decision.stops, checks.has_failed, direct=direct)
        self.compare()
        checks.check_changed(decision, self.state)
        if direct:
            self._settled = True
            checks.check_waits(decision, self.reference)

    def decide_again(self) -> None:
        """A decision right after another has nothing to add."""
        self.decide()
        before = self.decision
        self.decide()
        assert not any(self.decision[:4]), f"{self.decision} was decided right after {before}"
        assert self.decision[4:] == before[4:]

    # ---------------------------------------------------------------------------------------------------- compared

    def compare(self) -> None:
        """Compare the events that have come since the last comparison with the expected ones."""
        self._settled = False
        for stream in self.state.streams:
            checks.compare_events(stream)
        self.reference.close_streams()

    def check(self) -> None:
        checks.check_held(self.core, self.state)
        checks.check_inside(self.core, self.state)
        checks.check_counts(self.core)

    def finish(self) -> None:
        """Run and read everything to the end: nothing may be left of it."""
        state = self.state
        for stream in state.streams[::2]:
            self.half_close(stream)
        left = True
        while left:
            while any(state.restoring.values()):
                self.restore(0)
            self.decide()
            state.now += state.limits.batch_delay
            if len(state.streams) % 2:
                self.idle(decide=True)
            else:
                state.now += MAX_WAIT_SECONDS
            left = bool(self.running) or any(stream.outbox for stream in state.streams)
            left = left or any(state.queued(spec) for spec in state.specs)
            for run in self.running:
                self.end(run, 4, None)
            for stream in state.streams:
                while stream.outbox:
                    self.take(stream)
                    self.flush(stream)
            self.check()
        assert all(stream.in_flight == 0 for stream in state.streams)
        for stream in state.streams:
            self.abandon(stream)
        self.decide()
        self.check()
        checks.check_nothing_left(self.core, self.decision, state)
