"""All requests of runs as CSV, a row for each: for spreadsheets and notebooks. Pure."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TextIO

import numpy as np

from headrace.client.load.record.run import Outcome, Run
from headrace.client.load.record.samples import NO_ANSWER, Samples, Waits, concatenated
from headrace.client.load.report.chunked import Chunked
from headrace.client.load.report.ranking import extent, values_at
from headrace.client.load.report.summary import code_name, load_text

DURATIONS = ("latency_ms", "service_ms", "waiting_ms", "queued_ms", "running_ms")
WAITS = {f"{cause}_wait_ms": cause for cause in Waits._fields}
"""What a request waited for before it was sent, and the columns of `Samples` that say how long."""
HEADER = ("run", "phase", "load", "time", "due_s", "sent_s", "ended_s", "code", *DURATIONS, *WAITS)
ROWS_AT_ONCE = 30_000
FORMULA_MARKS = "=+-@\t\r"
"""A text that begins with one of these is a formula to a spreadsheet."""


def write_csv(runs: Sequence[Run], file: TextIO) -> None:
    """Write the requests that were taken up, sent or not, in the order in which they were due.

    `time` is the time of day (UTC) at which a request was due, if the record has it. Moments are in seconds since the
    measured part of the phase began; what is unknown is empty.
    """
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(HEADER)
    for at, run in enumerate(runs, 1):
        name = _harmless(run.name or str(at))
        for phase, outcome in enumerate(run.outcomes, 1):
            for row in _rows(outcome):
                rows.writerow((name, phase, load_text(outcome.phase.load), *row))


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for part in _in_due_order(outcome.samples):
        names = {code: "NO_ANSWER" if code == NO_ANSWER else code_name(code) for code in set(part.code.tolist())}
        moments = (part.intended, part.sent, part.ended)
        durations = (part.ended - part.intended, part.ended - part.sent, part.waiting, part.queued, part.running)
        waits = (getattr(part, name) for name in WAITS.values())
        for code, due, sent, ended, *times in zip(
            part.code.tolist(), *(column.tolist() for column in (*moments, *durations, *waits)), strict=True
        ):
            time = "" if outcome.began is None else _time_of_day(outcome.began + due)
            yield (
                time,
                *(_number(moment) for moment in (due, sent, ended)),
                names[code],
                *(_number(1e3 * time) for time in times),
            )


def _in_due_order(samples: Samples) -> Iterator[Samples]:
    """The requests in the order in which they were due, some at a time."""
    due = Chunked(lambda: (chunk.intended for chunk in samples.chunks()))
    ranks = range(ROWS_AT_ONCE, samples.count, ROWS_AT_ONCE)
    limits = sorted(set(values_at(due, ranks, extent(due))))
    spans = [(float(chunk.min()), float(chunk.max())) for chunk in due]
    for low, high in pairwise((-math.inf, *limits, math.inf)):
        rows = concatenated(
            [
                chunk.select((chunk.intended >= low) & (chunk.intended < high))
                for chunk, (first, last) in zip(samples.chunks(), spans, strict=True)
                if first < high and last >= low
            ]
        )
        yield rows.select(np.argsort(rows.intended, kind="stable"))


def _number(value: float) -> str:
    """Six decimals at most; empty if it is not known."""
    return "" if value != value else f"{value:.6f}".rstrip("0").rstrip(".")


def _time_of_day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(tuple(FORMULA_MARKS)) else text
