"""Batches: how many rows a run may have in which the inputs of several tickets are joined along the first axis.

Nothing in a model's file says that its rows are independent, and the shapes cannot: a sum over the first axis that is
added to each row has them too. So it is tried when the model loads. A row must give the same bits with others as alone,
for every number of rows up to the limit: kernels are chosen by size, and some round otherwise from so many rows on. And
unless the operator asked for a number, batches must pay: each size is timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import openvino as ov

from headrace.server.core.specs import MAX_BATCH, Port
from headrace.server.engine.ports import row_bytes
from headrace.server.engine.probing.row_probe import MixedRows, Trial
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import quote

LARGEST = 32 << 20
"""Bytes of the inputs and outputs of a run. The check holds five times this memory, and joining copies it: a MiB takes
as long as a hop."""
LESS = 0.95
"""When the number of rows doubles, a row's share of the time must fall to this, or rows only wait for each other."""
TRIALS = 3
"""A machine that is busy makes a size look slow; so many times in a row it hardly does."""
FIRST = 0.2
"""Seconds after which the first run of all is given up: what takes so long is far above any `longest`."""
MEASURING = 1.0
"""Seconds that measuring the sizes may take, and again measuring the one that was chosen."""
CHECKING = 2.0
"""Seconds that comparing rows may take."""
CHECKING_WANTED = 20.0
"""The same where the operator has asked for batches, and so would rather wait than not have them."""


@dataclass(frozen=True, slots=True)
class Batching:
    """`rows` is the most that a run may have, 1 when the model is not to be batched. `why` is for the log."""

    rows: int
    why: str


def most_rows(
    compiled: ov.CompiledModel,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    wanted: int | None,
    in_place: bool,
    longest: float,
) -> Batching:
    """Measure and check a model without variables, none of whose outputs is an input passed through.

    `wanted` is the operator's number, None to batch as far as it pays: in runs of `longest` seconds at most. If
    `in_place`, its runs are direct ones. The model runs on random data, NaN and infinities among it; what it makes of
    them never raises. Blocks for seconds at the worst.
    """
    unfit = _unfit(inputs, outputs)
    if unfit is not None:
        return Batching(1, unfit)
    bound, why = _bound(inputs, outputs, wanted)
    if bound < 2:
        return Batching(1, why)
    try:
        trial = Trial(compiled, inputs, outputs, bound)
        if wanted is not None:
            return _checked(trial, bound, CHECKING_WANTED)
        return _Sizes(trial, in_place, longest).choose(bound)
    except MixedRows as mixed:
        return Batching(1, str(mixed))
    except RuntimeError:
        return Batching(1, "it cannot be tried")


def _unfit(inputs: Sequence[Port], outputs: Sequence[Port]) -> str | None:
    """Why the ports alone rule batches out."""
    if not inputs or not outputs:
        return "it has no inputs" if not inputs else "it has no outputs"
    named = [("input", port) for port in inputs] + [("output", port) for port in outputs]
    for kind, port in named:
        reason = _unfit_port(port)
        if reason is not None:
            return f"{kind} {quote(port.name)} {reason}"
    return None


def _unfit_port(port: Port) -> str | None:
    if port.datatype is Datatype.BYTES:
        return "is of strings"
    if not port.shape or port.shape[0].static:
        return "has no dynamic first axis"
    if port.shape[0].min > 1:
        return f"has {port.shape[0].min} rows at least"
    if not all(dimension.static for dimension in port.shape[1:]):
        return "has another dynamic axis"
    return None if row_bytes(port) else "has no elements"


def _bound(inputs: Sequence[Port], outputs: Sequence[Port], wanted: int | None) -> tuple[int, str]:
    """The most rows that are tried, and what bounds them."""
    size = sum(row_bytes(port) for port in (*inputs, *outputs))
    largest = [port.shape[0].max for port in (*inputs, *outputs) if port.shape and port.shape[0].max >= 0]
    bounds = [(MAX_BATCH, "no more are tried"), (LARGEST // size, f"a row takes {size / (1 << 20):.1f} MiB")]
    bounds += [(rows, "the model takes no more") for rows in largest]
    if wanted is not None:
        bounds.append((wanted, "no more are wanted"))
    return min(bounds)


class _Sizes:
    """How long runs of one row and of more take, and which sizes pay.

    A size pays when its run takes no longer than `size` tickets one after another wait for their results on average:
    the first one row's time, the last `size` times as long.
    """

    def __init__(self, trial: Trial, in_place: bool, longest: float) -> None:
        self._trial = trial
        self._in_place = in_place
        self._longest = longest
        self._taken: dict[int, list[float]] = {}
        """Seconds of runs, by their rows."""

    def choose(self, bound: int) -> Batching:
        """The most rows that pay and give what each gives alone. Raises MixedRows."""
        measured = self._largest(bound)
        if measured.rows < 2:
            return measured
        checked = _checked(self._trial, measured.rows, CHECKING)
        if checked.rows < 2:
            return checked
        # Anew: there may be fewer rows than were measured, and the machine may have been busy when one row was.
        self._taken.clear()
        deadline = perf_counter() + MEASURING
        against = self._measure([1], deadline) or self._against(1, checked.rows, deadline)
        if against is not None:
            return Batching(1, against)
        return measured if checked.rows == measured.rows else checked

    def _largest(self, bound: int) -> Batching:
        """Double the rows for as long as that pays."""
        against = self._measure([1], perf_counter() + FIRST)
        if against is None and self._seconds(1) > self._longest:
            against = f"a row takes {self._seconds(1) * 1e3:.3g} ms"
        deadline = perf_counter() + MEASURING
        rows = 1
        while rows < bound and against is None:
            more = min(2 * rows, bound)
            against = self._against(rows, more, deadline)
            if against is None:
                rows = more
        return _batching(rows, against)

    def _against(self, fewer: int, rows: int, deadline: float) -> str | None:
        """What speaks against so many rows; None when they pay and each is quicker than with `fewer`."""
        sizes = [rows]
        for _ in range(TRIALS):
            against = self._measure(sizes, deadline) or self._slow(fewer, rows)
            if against is None or self._seconds(rows) > self._longest:
                break
            sizes = [1, fewer, rows]
        return against

    def _slow(self, fewer: int, rows: int) -> str | None:
        taken, one, before = self._seconds(rows), self._seconds(1), self._seconds(fewer)
        if taken > self._longest:
            return f"{rows} rows take {taken * 1e3:.3g} ms"
        if taken > (rows + 1) / 2 * one:
            return f"{rows} rows take {taken / one:.1f} times as long as one"
        if taken / rows > LESS * before / fewer:
            return f"{rows} rows take {taken / before:.1f} times as long as {fewer}"
        return None

    def _seconds(self, rows: int) -> float:
        taken = self._taken.get(rows, [math.inf])
        return min(taken) if self._in_place else median(taken)

    def _measure(self, sizes: Sequence[int], deadline: float) -> str | None:
        """Add to what was measured; returns what went wrong."""
        for rows in sizes:
            try:
                taken = self._trial.seconds(rows, self._in_place, deadline)
            except TimeoutError:
                return f"measuring {_rows(rows)} takes too long"
            except RuntimeError:
                return f"a run of {_rows(rows)} fails"
            self._taken[rows] = [*self._taken.get(rows, ()), *taken]
        return None


def _checked(trial: Trial, most: int, seconds: float) -> Batching:
    """The most rows up to `most` that give what each gives alone, and so for every smaller number of rows.

    Raises MixedRows.
    """
    deadline = perf_counter() + seconds
    for rows in range(1, most + 1):
        try:
            against = trial.difference(rows, deadline)
        except TimeoutError:
            against = f"checking {_rows(rows)} takes too long"
        except RuntimeError:
            against = f"a run of {_rows(rows)} fails"
        if against is not None:
            return _batching(max(1, rows - 1), against)
    return _batching(most, None)


def _batching(rows: int, against: str | None) -> Batching:
    """So many rows, and what speaks against more."""
    if rows < 2:
        return Batching(1, against or "it takes no more")
    return Batching(rows, f"up to {rows} rows" + (f": {against}" if against else ""))


def _rows(count: int) -> str:
    return "a row" if count == 1 else f"{count} rows"
