"""Everything that is held at this moment, on all streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.server.core.engine_api import Run
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from tests.server.core.reference.accounts import ExpectedAccounts
from tests.server.core.reference.expected import ExpectedCharge, ExpectedStream, ExpectedTicket, KnownCall


class ExpectedState:
    def __init__(self, limits: Limits, specs: Sequence[ModelSpec]) -> None:
        self.limits = limits
        self.specs = [*specs]
        """Of models, and of every variant there ever was."""
        self.variants: list[tuple[ModelSpec, ModelSpec]] = []
        """Models, and variants that new tickets are bound to, the oldest first."""
        self.now = 0.0
        self.clock = 0
        """Counts what has happened. What happens at one tick has no order."""
        self.streams: list[ExpectedStream] = []
        self.accounts = ExpectedAccounts(limits, self.streams)
        self.draining = False
        self.grace_ends: float | None = None
        self.stops: list[Run] = []
        """Runs that the next decision must stop."""
        self.parked: set[int] = set()
        """The ids of the core's tickets that it had put aside before the last command, because of their clients."""
        self.pace: dict[int, float] = {}
        """The seconds that each model has taken for a ticket, as the core has measured them."""
        self.restoring: dict[int, set[int]] = {id(spec): set() for spec in specs}
        """For each model its slots that were spoiled and not restored yet."""

    def add_variant(self, spec: ModelSpec, variant: ModelSpec) -> None:
        self.specs.append(variant)
        self.variants.append((spec, variant))
        self.restoring[id(variant)] = set()

    def bound(self, call: KnownCall) -> KnownCall:
        """A call, as one of the smallest variant that has all outputs it asks for, if there is one."""
        asked = {port.names for port in (*call.outputs, *call.keep)}
        fitting = [
            variant
            for spec, variant in self.variants
            if spec is call.spec and asked <= {port.names for port in variant.outputs}
        ]
        if call.call.all_outputs or not asked or not fitting:
            return call
        return replace(call, spec=min(fitting, key=lambda each: len(each.outputs)))

    def full(self, spec: ModelSpec) -> ModelSpec | None:
        """The model of a variant; None for a model."""
        return next((each for each in self.specs if spec.pruned_to and each.name == spec.name), None)

    def doubt(self, variant: ModelSpec) -> None:
        """A ticket that has failed in a variant is done in its model."""
        self.variants = [each for each in self.variants if each[1] is not variant]

    def tick(self) -> int:
        """Something has happened."""
        self.clock += 1
        return self.clock

    @property
    def tickets(self) -> list[ExpectedTicket]:
        return [ticket for stream in self.streams for ticket in stream.tickets]

    def is_charged(self, charge: ExpectedCharge) -> bool:
        """Whether some ticket still needs the input bytes of a message."""
        return any(e.charge is charge and e.needs_input for e in self.tickets)

    def backpressured(self, stream: ExpectedStream) -> bool:
        return stream.unsent_bytes > self.limits.unsent_bytes or self.accounts.exceeds("unsent", stream)

    def runs(self, spec: ModelSpec | None = None) -> list[Run]:
        """The runs that occupy slots, of one model or of all, even if their tickets have ended."""
        runs = {id(e.run): e.run for e in self.tickets if e.run is not None}.values()
        return [run for run in runs if spec is None or run.spec is spec]

    def free_slots(self, spec: ModelSpec) -> int:
        return spec.slots - len(self.runs(spec)) - len(self.restoring[id(spec)])

    def shares_processor(self, spec: ModelSpec) -> bool:
        """Whether the runs of a model wait for the processor."""
        return self.limits.processors > 0 and spec.threads > 0 and not spec.direct

    @property
    def processor_is_busy(self) -> bool:
        """Whether the runs of models that share the processor keep all of it busy."""
        shared = [spec for spec in self.specs if self.shares_processor(spec)]
        computing = sum(min(len(self.runs(spec)), spec.streams) * spec.threads for spec in shared)
        return 0 < self.limits.processors <= computing

    def tickets_of(self, run: Run) -> list[ExpectedTicket]:
        """The tickets of a run, in the order of its parts."""
        return [next(e for e in self.tickets if e.real is part) for part in run.parts]

    def queued(self, spec: ModelSpec) -> list[ExpectedTicket]:
        return [e for e in self.tickets if e.queued and e.call is not None and e.call.spec is spec]

    def bounds(self, spec: ModelSpec) -> tuple[int, float]:
        """How many tickets may wait for a slot of a model, and for how long; 0 for no bound."""
        most = self.limits.max_queue if spec.max_queue is None else spec.max_queue
        seconds = self.limits.max_queue_seconds if spec.max_queue_seconds is None else spec.max_queue_seconds
        return most, seconds

    def waiting(self, spec: ModelSpec) -> list[ExpectedTicket]:
        """Those that are queued, without those that cannot start because of their clients."""
        return [e for e in self.queued(spec) if id(e.real) not in self.parked]

    def deadlines(self) -> list[float]:
        """When time alone ends something: a ticket, a kept output, the grace period."""
        times = [e.ends_at for e in self.tickets if e.ends_at is not None and e.end is None]
        for stream in self.streams:
            times += [each.last_used + self.limits.keep_seconds for each in stream.unused_outputs()]
        return times if self.grace_ends is None else [*times, self.grace_ends]
