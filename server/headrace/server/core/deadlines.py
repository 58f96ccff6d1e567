"""Items that fall due: a heap that stays small however often a time is moved or dropped."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Due(Protocol):
    due: float | None
    """When it falls due, in the caller's seconds; None when it does not. Set by Deadlines only."""
    entry: float | None
    """The time of its entry in the heap; None when it has none."""


D = TypeVar("D", bound=Due)


class Deadlines(Generic[D]):
    __slots__ = ("_active", "_heap", "_order", "first")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, D]] = []
        self._order = itertools.count()
        self._active = 0
        self.first = math.inf
        """When to call `pop` next: no later than the first due time; infinity when nothing is due."""

    def set(self, item: D, due: float) -> None:
        """Let an item fall due at a time. Moving it to a later one is free: `pop` notices that it is not due yet."""
        if item.due is None:
            self._active += 1
        item.due = due
        if item.entry is None or due < item.entry:
            self._push(item, due)
            self._bound()
        self._look()

    def drop(self, item: D) -> None:
        if item.due is None:
            return
        item.due = None
        self._active -= 1
        self._bound()
        self._look()

    def pop(self, now: float) -> Iterator[D]:
        """Drop the items that are due, and yield each."""
        while self._heap and self._heap[0][0] <= now:
            when, _, item = heapq.heappop(self._heap)
            if item.entry != when:
                continue  # an outdated entry of an item that was moved to an earlier time
            item.entry = None
            if item.due is None:
                continue
            if item.due > now:
                self._push(item, item.due)
                continue
            self.drop(item)
            yield item
        self._look()

    def _look(self) -> None:
        self.first = self._heap[0][0] if self._active else math.inf

    def _push(self, item: D, due: float) -> None:
        item.entry = due
        heapq.heappush(self._heap, (due, next(self._order), item))

    def _bound(self) -> None:
        """Rebuild the heap without outdated entries when most entries are outdated."""
        if len(self._heap) <= 2 * self._active + 64:
            return
        live: list[tuple[float, int, D]] = []
        for place in self._heap:
            when, _, item = place
            if item.entry == when:
                item.entry = None  # so that a second entry of the same time is not taken for it
                if item.due is not None:
                    live.append(place)
        for when, _, item in live:
            item.entry = when
        self._heap = live
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return self._active

    def __repr__(self) -> str:
        return f"<Deadlines {self._active} active, {len(self._heap)} entries>"
