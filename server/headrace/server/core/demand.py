"""Which outputs of a model are asked for again and again, without the others, and how long that keeps the model busy.

A variant of the model that computes only these takes less time. But trying one takes seconds of the processor, and it
takes memory. So it must be asked for often, and for a good part of the time.
"""

from __future__ import annotations

from collections.abc import Collection

MAX_SETS = 8
"""Sets of outputs that are counted for a model. A new one takes the place of the one that was asked for least."""
MAX_REFUSED = 16
"""Sets of which there is to be no variant. A model with more gets no further variants."""
HALF_LIFE = 30.0
"""Seconds after which what was counted counts half."""
MIN_SECONDS = 3.0
"""What runs must have taken: between a twentieth and a tenth of the time, if that goes on."""
MIN_RUNS = 8


class Demand:
    """Counts the runs of a model of `outputs` outputs by the outputs that are asked for, sent or kept."""

    __slots__ = ("_halved", "_outputs", "_refused", "_runs")

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs
        self._runs: dict[frozenset[int], tuple[float, float]] = {}
        """The number of runs, and their seconds."""
        self._refused: set[frozenset[int]] = set()
        self._halved: float | None = None
        """When what was counted was last halved."""

    def ran(self, asked: frozenset[int], seconds: float) -> None:
        """A run of the model has taken so long to compute, and a ticket of it asks for these outputs."""
        if not 0 < len(asked) < self._outputs or asked in self._refused:
            return
        known = self._runs.get(asked)
        if known is not None:
            self._runs[asked] = known[0] + 1, known[1] + seconds
            return
        if len(self._runs) == MAX_SETS:
            del self._runs[min(self._runs, key=lambda each: self._runs[each][1])]
        self._runs[asked] = 1, seconds

    def wanted(self, now: float) -> tuple[int, ...] | None:
        """The outputs that a variant is worth trying with, by index, if there are any. To be asked about once a second.

        Sets that have a variant are not counted any more, since runs of those tickets are the variant's.
        """
        if self._halved is None:
            self._halved = now
        elif now - self._halved >= HALF_LIFE:
            self._halved = now
            self._runs = {asked: (runs / 2, seconds / 2) for asked, (runs, seconds) in self._runs.items()}
        if len(self._refused) == MAX_REFUSED:
            return None
        worth = [
            (seconds, asked)
            for asked, (runs, seconds) in self._runs.items()
            if runs >= MIN_RUNS and seconds >= MIN_SECONDS
        ]
        return tuple(sorted(max(worth, key=lambda each: each[0])[1])) if worth else None

    def answered(self, asked: Collection[int], *, refused: bool) -> None:
        """There is a variant of these now; or there is to be none: they are not `wanted` again."""
        self._runs.pop(frozenset(asked), None)
        if refused:
            self._refused.add(frozenset(asked))

    def __repr__(self) -> str:
        return f"<Demand {len(self._runs)} sets of outputs, {len(self._refused)} refused>"
