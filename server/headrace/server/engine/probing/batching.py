"""How many rows a batch may have: a run in which the inputs of several tickets are joined along the first axis.

Nothing in a model's file says that its rows are independent, and shapes cannot tell: a sum over the first axis that is
added to each row has the same shapes. So the model is probed when it loads. A row must give the same bits among others
as alone, for every number of rows up to the limit: kernels are chosen by size, and some round differently from a
certain number of rows on. And unless the operator has set a number, batches must pay off: each size is timed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import openvino as ov

from headrace.server.core.specs import MAX_BATCH, Port
from headrace.server.engine.ports import row_bytes
from headrace.server.engine.probing.processor_share import MAX_ATTEMPTS, ProcessorShare
from headrace.server.engine.probing.row_probe import MixedRowsError, RowProbe
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import quote

MAX_RUN_BYTES = 32 << 20
"""Bytes of the inputs and outputs of a batch. The check holds five times this memory, and joining inputs copies them: a
MiB takes as long as a thread hop."""
MAX_ROW_TIME_RATIO = 0.95
"""When the number of rows doubles, the time per row must fall at least to this ratio; else rows only wait for
others."""
MAX_MEASUREMENTS = 3
"""A busy machine can make one size look slow, but hardly three times in a row."""
FIRST_RUN_SECONDS = 0.2
"""How long the very first run may take: a model that is so slow is far above any `max_seconds`."""
MEASURING_SECONDS = 1.0
"""How long measuring the sizes may take, and measuring the chosen size once more."""
CHECKING_SECONDS = 2.0
"""How long comparing rows may take."""
REQUESTED_CHECKING_SECONDS = 20.0
"""How long comparing rows may take if the operator has asked for batches, and so prefers waiting to not having them."""


@dataclass(frozen=True, slots=True)
class Batching:
    """`rows` is the maximum of a run, 1 when the model is not batched. `why` is for the log."""

    rows: int
    why: str


def probe_batching(
    compiled: ov.CompiledModel,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    numbers: Collection[int] = (),
    requested: int | None,
    in_place: bool,
    max_seconds: float,
) -> Batching:
    """Measure and check a model that has no variables and no output that is an input passed through.

    `numbers` are the inputs of integers that are no indices. `requested` is the operator's number of rows; with None
    there are as many as pay off in runs of at most `max_seconds`. `in_place`: runs of the model are direct ones. The
    model runs on random data with NaN and infinities among them. Failures of the model do not raise. Blocks for seconds
    at worst, three times as long if this process hardly gets the processor.
    """
    unfit = _why_unfit(inputs, outputs)
    if unfit is not None:
        return Batching(1, unfit)
    bound, why = _bound(inputs, outputs, requested)
    if bound < 2:
        return Batching(1, why)
    try:
        for _ in range(MAX_ATTEMPTS):
            share, probe = ProcessorShare(), RowProbe(compiled, inputs, outputs, bound, numbers)
            if requested is not None:
                found = _checked(probe, bound, REQUESTED_CHECKING_SECONDS)
            else:
                found = _Sizes(probe, in_place, max_seconds).choose(bound)
            if not (probe.cut_short and share.starved):
                break
    except MixedRowsError as mixed:
        return Batching(1, str(mixed))
    except RuntimeError:
        return Batching(1, "it cannot be probed")
    return found


def _why_unfit(inputs: Sequence[Port], outputs: Sequence[Port]) -> str | None:
    """Why the ports alone rule out batches; None if they do not."""
    if not inputs or not outputs:
        return "it has no inputs" if not inputs else "it has no outputs"
    named = [("input", port) for port in inputs] + [("output", port) for port in outputs]
    for kind, port in named:
        reason = _why_unfit_port(port)
        if reason is not None:
            return f"{kind} {quote(port.name)} {reason}"
    return None


def _why_unfit_port(port: Port) -> str | None:
    if port.datatype is Datatype.BYTES:
        return "holds strings"
    if not port.shape or port.shape[0].static:
        return "has no dynamic first axis"
    if port.shape[0].min > 1:
        return f"requires at least {port.shape[0].min} rows"
    if not all(dimension.static for dimension in port.shape[1:]):
        return "has a dynamic axis besides the first"
    return None if row_bytes(port) else "has no elements"


def _bound(inputs: Sequence[Port], outputs: Sequence[Port], requested: int | None) -> tuple[int, str]:
    """The maximum number of rows to probe, and what limits it."""
    size = sum(row_bytes(port) for port in (*inputs, *outputs))
    limits = [port.shape[0].max for port in (*inputs, *outputs) if port.shape and port.shape[0].max >= 0]
    bounds = [
        (MAX_BATCH, f"{MAX_BATCH} rows are the maximum"),
        (MAX_RUN_BYTES // size, f"a row takes {size / (1 << 20):.1f} MiB of inputs and outputs"),
    ]
    bounds += [(rows, "the model accepts only one row") for rows in limits]
    if requested is not None:
        bounds.append((requested, "only one row is configured"))
    return min(bounds)


class _Sizes:
    """How long runs of one row and of more take, and which sizes pay off.

    A size pays off when its run takes no longer than `size` tickets, run one after another, wait for their results on
    average: the first one waits for the time of one row, the last one `size` times as long.
    """

    def __init__(self, probe: RowProbe, in_place: bool, max_seconds: float) -> None:
        self._probe = probe
        self._in_place = in_place
        self._max_seconds = max_seconds
        self._times: dict[int, list[float]] = {}
        """Seconds of runs, by their number of rows."""

    def choose(self, bound: int) -> Batching:
        """The largest size that pays off and gives each row's own result. Raises MixedRowsError."""
        measured = self._largest(bound)
        if measured.rows < 2:
            return measured
        checked = _checked(self._probe, measured.rows, CHECKING_SECONDS)
        if checked.rows < 2:
            return checked
        # Once more: there may be fewer rows than were measured, and the machine may have been busy when one row was.
        self._times.clear()
        deadline = perf_counter() + MEASURING_SECONDS
        objection = self._measure([1], deadline) or self._objection(1, checked.rows, deadline)
        if objection is not None:
            return Batching(1, objection)
        return measured if checked.rows == measured.rows else checked

    def _largest(self, bound: int) -> Batching:
        """Double the number of rows for as long as that pays off."""
        objection = self._measure([1], perf_counter() + FIRST_RUN_SECONDS)
        if objection is None and self._seconds(1) > self._max_seconds:
            objection = f"one row takes {self._seconds(1) * 1e3:.3g} ms"
        deadline = perf_counter() + MEASURING_SECONDS
        rows = 1
        while rows < bound and objection is None:
            more = min(2 * rows, bound)
            objection = self._objection(rows, more, deadline)
            if objection is None:
                rows = more
        return _batching(rows, objection)

    def _objection(self, fewer: int, rows: int, deadline: float) -> str | None:
        """Why not to have this number of rows; None when it pays off and each row is quicker than with `fewer`."""
        sizes = [rows]
        for _ in range(MAX_MEASUREMENTS):
            objection = self._measure(sizes, deadline) or self._why_slow(fewer, rows)
            if objection is None or self._seconds(rows) > self._max_seconds:
                break
            sizes = [1, fewer, rows]
        return objection

    def _why_slow(self, fewer: int, rows: int) -> str | None:
        seconds, one_row, before = self._seconds(rows), self._seconds(1), self._seconds(fewer)
        if seconds > self._max_seconds:
            return f"{rows} rows take {seconds * 1e3:.3g} ms"
        if seconds > (rows + 1) / 2 * one_row:
            return f"{rows} rows take {seconds / one_row:.1f} times as long as one"
        if seconds / rows > MAX_ROW_TIME_RATIO * before / fewer:
            return f"{rows} rows take {seconds / before:.1f} times as long as {fewer}"
        return None

    def _seconds(self, rows: int) -> float:
        times = self._times.get(rows, [math.inf])
        return min(times) if self._in_place else median(times)

    def _measure(self, sizes: Sequence[int], deadline: float) -> str | None:
        """Add to the measured times. Returns what went wrong."""
        for rows in sizes:
            try:
                times = self._probe.time_runs(rows, self._in_place, deadline)
            except TimeoutError:
                return f"measuring {_rows(rows)} takes too long"
            except RuntimeError:
                return f"a run of {_rows(rows)} fails"
            self._times[rows] = [*self._times.get(rows, ()), *times]
        return None


def _checked(probe: RowProbe, max_rows: int, seconds: float) -> Batching:
    """The largest size up to `max_rows` at which, as at every smaller size, each row gives its own result.

    Raises MixedRowsError.
    """
    deadline = perf_counter() + seconds
    for rows in range(1, max_rows + 1):
        try:
            objection = probe.find_difference(rows, deadline)
        except TimeoutError:
            objection = f"checking {_rows(rows)} takes too long"
        except RuntimeError:
            objection = f"a run of {_rows(rows)} fails"
        if objection is not None:
            return _batching(max(1, rows - 1), objection)
    return _batching(max_rows, None)


def _batching(rows: int, objection: str | None) -> Batching:
    """This number of rows, and why not more."""
    if rows < 2:
        return Batching(1, objection or "it accepts no more")
    return Batching(rows, f"up to {rows} rows" + (f": {objection}" if objection else ""))


def _rows(count: int) -> str:
    return "one row" if count == 1 else f"{count} rows"
