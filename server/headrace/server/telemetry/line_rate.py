"""How many lines a second the log gets about one thing that happens again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
PERIOD_SECONDS = 1.0
MAX_KINDS = 256
"""Kinds that are counted apart in a second, of those that are left out."""


class LineRate(Generic[K]):
    """Admits so many lines a second of each kind, and of all kinds together; then says how many there were more.

    `report` is given how many of each kind, and how many of others once there are MAX_KINDS. `later(seconds, call)`
    calls a function later: without further lines, the end of a second would go unnoticed.
    """

    def __init__(
        self,
        of_a_kind: int,
        in_total: int,
        report: Callable[[dict[K, int], int], None],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._of_a_kind = of_a_kind
        self._in_total = in_total
        self._report = report
        self._now = now
        self._later = later
        self._ends = now()
        self._total = 0
        self._counts: dict[K, int] = {}
        """Of the kinds that had lines: no more than lines."""
        self._left_out: dict[K, int] = {}
        self._others = 0
        self._waits = False
        """Whether `flush` will be called when the second is over."""

    def admits(self, kind: K) -> bool:
        """Whether the log gets a line of this kind now."""
        now = self._now()
        if now >= self._ends:
            self.flush()
            self._ends = now + PERIOD_SECONDS
            self._total = 0
            self._counts.clear()
        count = self._counts.get(kind, 0)
        if count < self._of_a_kind and self._total < self._in_total:
            self._counts[kind] = count + 1
            self._total += 1
            return True
        if kind in self._left_out or len(self._left_out) < MAX_KINDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
        else:
            self._others += 1
        if not self._waits:
            self._waits = True
            self._later(self._ends - now, self._on_timer)
        return False

    def flush(self) -> None:
        """Say how many were left out, if any."""
        if self._left_out:
            left_out, self._left_out = self._left_out, {}
            others, self._others = self._others, 0
            self._report(left_out, others)

    def _on_timer(self) -> None:
        self._waits = False
        self.flush()

    def __repr__(self) -> str:
        left_out = sum(self._left_out.values()) + self._others
        return f"<LineRate: {self._total} lines in this second, {left_out} left out>"
