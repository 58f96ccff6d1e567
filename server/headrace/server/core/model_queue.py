"""A version of a model: its slots, and the tickets that are queued for them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from headrace.server.core.batching import Arrivals
from headrace.server.core.calls import Plan
from headrace.server.core.counts import ModelCounts
from headrace.server.core.demand import Demand
from headrace.server.core.limits import Limits
from headrace.server.core.lines import T
from headrace.server.core.queue_bounds import QueueBounds
from headrace.server.core.sharing import Share
from headrace.server.core.specs import ModelSpec
from headrace.server.core.statistics import Statistics
from headrace.server.core.transitions import SLOT_TRANSITIONS, SlotState, illegal
from headrace.server.core.turns import Turns

_NO_BOUNDS = Limits()


class ModelQueue(Turns[T]):
    """Tickets of type `T` that wait for the slots of one version of a model. `turns` has their order."""

    def __init__(
        self,
        spec: ModelSpec,
        full: ModelQueue[T] | None = None,
        counts: ModelCounts | None = None,
        limits: Limits = _NO_BOUNDS,
    ) -> None:
        """With `full`, it is a variant of that model. `counts` are those of a model that it replaces."""
        super().__init__()
        self.spec = spec
        bounds = QueueBounds(spec, limits)
        self.bounds: QueueBounds | None = bounds if bounds.exist else None
        """Those of its queue, if there are any. A variant has a queue of its own."""
        self.share = Share(spec)
        self.full = full
        self.statistics: Statistics = Statistics() if full is None else full.statistics
        self.counts: ModelCounts = (counts or ModelCounts()) if full is None else full.counts
        self.demand = Demand(len(spec.outputs)) if spec.prunes else None
        """What is asked of it, if it may have variants."""
        self.outputs = frozenset([port.index for port in spec.outputs])
        self.variants: Sequence[ModelQueue[T]] = ()
        """Those that new tickets are bound to, with the fewest outputs first."""
        self.executions = 0
        """Of this model or variant alone: runs that had a result."""
        self.arrivals = Arrivals()
        self.holders = 1
        """Infers that need the model, until they return their inputs; and one more while new tickets may use it."""
        self.slots = [SlotState.FREE] * spec.slots
        self._free = list(range(spec.slots))
        self.restorations = 0
        """How often a slot was restored after a failed run."""

    def variant_for(self, plan: Plan) -> ModelQueue[T]:
        """The smallest variant that has all outputs that are asked for; the model itself if there is none."""
        if plan.asked:
            for variant in self.variants:
                if plan.asked <= variant.outputs:
                    return variant
        return self

    def make_room(self, bounds: QueueBounds, priority: int, owner: Hashable) -> T | None:
        """Whether one more ticket may wait. Returns the one that has to make room for it, if any.

        Raises ResourceExhausted if none may.
        """
        at_once = len(self._free) * self.spec.batch
        if bounds.seconds and bounds.is_too_slow(before := self.ahead(priority, owner) - at_once):
            raise bounds.too_slow(before)
        if not bounds.most or self.waiting - at_once < bounds.most:
            return None
        ticket = self.least_entitled(priority, owner)
        if ticket is None:
            raise bounds.full(self.waiting)
        return ticket

    def measure(self, tickets: int, running: float, now: float) -> None:
        """A run of so many tickets has ended, and its slot is free."""
        if self.bounds is not None:
            runs = 1 + len(self.slots) - len(self._free)
            self.bounds.pace.ended(tickets, running, runs, now, waiting=self.waiting > 0)

    # ------------------------------------------------------------------------------------------------------- slots

    @property
    def has_free_slot(self) -> bool:
        return bool(self._free)

    def occupy(self) -> int:
        """Take a free slot: the one used last, whose memory is warm."""
        slot = self._free.pop()
        self._move(slot, SlotState.RUNNING)
        return slot

    def stop(self, slot: int) -> None:
        self._move(slot, SlotState.STOPPING)

    def free(self, slot: int) -> None:
        self._move(slot, SlotState.FREE)
        self._free.append(slot)

    def withdraw(self, slot: int) -> None:
        """Keep a slot in which nothing runs from being used until it is restored."""
        if self.slots[slot] is SlotState.FREE:
            self._free.remove(slot)
        self._move(slot, SlotState.RESTORING)

    def restore(self, slot: int, *, replaced: bool) -> None:
        """A slot can be used again, with another compiled model if that was `replaced`."""
        assert self.slots[slot] is SlotState.RESTORING, f"slot {slot} of {self!r} is not being restored"
        self.restorations += 1
        self.counts.restored += 1
        if replaced:
            self.counts.replaced += 1
        self.free(slot)

    def _move(self, slot: int, state: SlotState) -> None:
        if state not in SLOT_TRANSITIONS[self.slots[slot]]:
            raise illegal(self.slots[slot], state)
        self.slots[slot] = state

    def pick(self, now: float) -> Sequence[T]:
        """Take out the tickets of the next run; none when no slot is free, or no ticket may start.

        Free slots share the queue among themselves, except for direct models, whose runs happen one after another
        anyway.
        """
        if not self._free:
            return ()
        max_rows = self.spec.batch
        if max_rows > 1 and not self.spec.direct:
            max_rows = min(max_rows, -(-self.queued // len(self._free)))
        return self.take(max_rows, now)

    def __repr__(self) -> str:
        running = self.slots.count(SlotState.RUNNING)
        stopping = self.slots.count(SlotState.STOPPING)
        restoring = self.slots.count(SlotState.RESTORING)
        return (
            f"<ModelQueue {self.spec.name}/{self.spec.version} {running} running, {stopping} stopping, "
            f"{restoring} restoring, {len(self._free)} free, {self.queued} queued>"
        )
