"""The layouts that the client of a stream knows by number, bounded for each stream and for all together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

from headrace.server.core.calls import Plan
from headrace.server.core.quotas import Quota
from headrace.wire.limits import MAX_LAYOUTS
from headrace.wire.lru import LruCache

MAX_STREAM_BYTES = 256 << 10
"""The most that a stream remembers."""
RESERVED_BYTES = 4 << 10
"""What each stream may remember in any case."""

LayoutKey: TypeAlias = tuple[Hashable, ...]
_ENTRY_BYTES, _SHAPE_BYTES, _DIMENSION_BYTES = 300, 64, 36
_PLAN_BYTES, _PORT_BYTES = 300, 150


class Layouts:
    """Numbers of layouts from 1 to MAX_LAYOUTS; those that were used least recently are forgotten first.

    A layout that was forgotten is defined again when it is used again, which only costs time. `shared` is the quota
    of all streams for what they remember beyond RESERVED_BYTES each. Sizes are estimates of what an entry occupies.
    """

    __slots__ = ("_free", "_numbers", "_plans", "_plans_bytes", "_shared", "_taken", "get")

    def __init__(self, shared: Quota) -> None:
        self._numbers: LruCache[LayoutKey, int] = LruCache(MAX_LAYOUTS, MAX_STREAM_BYTES)
        self._plans: dict[Plan, int] = {}
        """How many keys contain a plan, and thereby keep it in memory."""
        self._plans_bytes = 0
        self._shared = shared
        self._taken = 0
        """Bytes charged to `shared`."""
        self._free = 0
        """The numbers of layouts that were forgotten, as bits."""
        self.get = self._numbers.get
        """The number of a layout, or None. It is the method of the cache itself, since every event needs it."""

    @property
    def nbytes(self) -> int:
        return self._numbers.nbytes + self._plans_bytes

    def assign(self, key: LayoutKey, shapes: Sequence[Sequence[int]]) -> int:
        """A number for a layout that has none. The key consists of a plan or a port, and these shapes."""
        if len(self._numbers) == MAX_LAYOUTS:
            self._forget_oldest()
        number = self._free_number()
        plan = key[0]
        if isinstance(plan, Plan):
            if plan not in self._plans:
                self._plans_bytes += plan_bytes(plan)
            self._plans[plan] = self._plans.get(plan, 0) + 1
        nbytes = _ENTRY_BYTES + sum([_SHAPE_BYTES + _DIMENSION_BYTES * len(shape) for shape in shapes])
        for forgotten in self._numbers.put(key, number, nbytes):
            self._forgotten(*forgotten)
        while self.nbytes > MAX_STREAM_BYTES or not self._fits():
            self._forget_oldest()
        self._settle()
        return number

    def close(self) -> None:
        """Forget everything: the stream has ended."""
        while len(self._numbers):
            self._forget_oldest()
        self._settle()

    def _free_number(self) -> int:
        free = self._free
        if not free:
            return len(self._numbers) + 1
        lowest = free & -free
        self._free = free ^ lowest
        return lowest.bit_length() - 1

    def _forget_oldest(self) -> None:
        key = next(iter(self._numbers))
        number = self._numbers.pop(key)
        assert number is not None
        self._forgotten(key, number)

    def _forgotten(self, key: LayoutKey, number: int) -> None:
        self._free |= 1 << number
        plan = key[0]
        if isinstance(plan, Plan):
            self._plans[plan] -= 1
            if not self._plans[plan]:
                del self._plans[plan]
                self._plans_bytes -= plan_bytes(plan)

    def _fits(self) -> bool:
        return self.nbytes <= RESERVED_BYTES or self._shared.fits(self._missing_charge())

    def _missing_charge(self) -> int:
        """Bytes that are not charged to `shared` yet; negative if too many are."""
        return max(0, self.nbytes - RESERVED_BYTES) - self._taken

    def _settle(self) -> None:
        change = self._missing_charge()
        self._taken += change
        if change > 0:
            self._shared.charge(change)
        elif change:
            self._shared.refund(-change)

    def __repr__(self) -> str:
        return f"<Layouts: {len(self._numbers)} of {MAX_LAYOUTS}, {self.nbytes} bytes>"


def plan_bytes(plan: Plan) -> int:
    """An estimate of what a plan occupies."""
    ports = sum(map(len, (plan.inline, plan.references, plan.zeros, plan.outputs, plan.keep)))
    return _PLAN_BYTES + _PORT_BYTES * ports
