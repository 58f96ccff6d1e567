"""What `headrace load` and `headrace report` print for people: one screen, in a terminal or a log."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.client.load.report.differences import Row, rows
from headrace.client.load.report.formats import counted, duration_text, rate_text
from headrace.client.load.report.text_tables import BAD, QUIET, figures_table, where_table
from headrace.client.load.run import ClosedLoop, Phase, Run, Settings
from headrace.client.terminal.printing import NO_WRAP_WIDTH, printable

NARROWEST = 80
"""Columns. In less the tables would lose some, so that a narrower terminal breaks the lines itself."""
MAX_INPUTS = 3
CLOSED = "A closed loop asks a slow server less; --rate shows what its users would see."
NO_TIMES = "Where QUEUE is -, the server tells no times, and NETWORK holds them."


def print_report(runs: Sequence[Run], file: TextIO | None = None, width: int | None = None) -> None:
    """As wide as the terminal; without colours, and with no line broken, when there is none."""
    file = file or sys.stdout
    width = width or (None if file.isatty() else NO_WRAP_WIDTH)
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    console.width = max(console.width, NARROWEST)
    with console.capture() as capture:
        for part in _parts(runs):
            console.print(part)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=file)


def _parts(runs: Sequence[Run]) -> Iterator[RenderableType]:
    marks = [f"{_mark(at)} " for at in range(len(runs))] if len(runs) > 1 else [""]
    together = rows(runs)
    yield from (_title(mark, run) for mark, run in zip(marks, runs, strict=True))
    yield Text()
    yield figures_table(marks, together)
    yield from (Text(line, QUIET) for line in _counts(marks, together))
    table = where_table(marks, together)
    if table.row_count:
        yield Text()
        yield table
    yield from (Text(line, QUIET) for line in _notes(runs, together))
    warnings = list(_warnings(marks, together))
    if warnings:
        grid = Table.grid(padding=(0, 1, 0, 0))
        for warning in warnings:
            grid.add_row(Text("!", f"bold {BAD}"), Text(warning, BAD))
        yield Text()
        yield grid


def _mark(at: int) -> str:
    """A, B, C, ... of a run beside others."""
    return string.ascii_uppercase[at] if at < len(string.ascii_uppercase) else str(at + 1)


def _title(mark: str, run: Run) -> Text:
    settings = run.settings
    model = printable(settings.model) + (f" version {printable(settings.version)}" if settings.version else "")
    what = f"{printable(settings.target)} · {settings.protocol} {settings.mode} · {printable(settings.server)}"
    name = f" · {printable(run.name)}" if mark and run.name else ""
    title = Text.assemble((mark, "bold"), (model, "bold"), f" at {what}{name}")
    title.append("\n" + " " * len(mark) + _how(settings, [outcome.phase for outcome in run.outcomes]), QUIET)
    if not mark:
        title.append(f"\n{_inputs(settings)}", QUIET)
    return title


def _how(settings: Settings, phases: Sequence[Phase]) -> str:
    way = "stream" if settings.mode == "stream" else "connection"
    processes = f"{settings.processes} processes" if settings.processes != 1 else "1 process"
    made = f"{counted(settings.streams, way)}, window {settings.window}, {processes}"
    spans = dict.fromkeys(map(_span, phases))
    return " · ".join((made, *list(spans)[:1], f"{printable(settings.started)[:16].replace('T', ' ')} UTC"))


def _span(phase: Phase) -> str:
    measured = counted(phase.count or 0, "request") if phase.duration is None else f"{phase.duration:g} s"
    return f"{measured} (warm-up {phase.warmup:g} s)"


def _inputs(settings: Settings) -> str:
    more = len(settings.inputs) - MAX_INPUTS
    inputs = ", ".join(map(printable, settings.inputs[:MAX_INPUTS])) + (f" and {more} more" if more > 0 else "")
    outputs = "all" if settings.outputs is None else ", ".join(map(printable, settings.outputs)) or "none"
    return f"inputs {inputs or 'none'} · outputs {outputs}" + (
        f" · keeps {len(settings.keep)}" if settings.keep else ""
    )


def _counts(marks: Sequence[str], together: Sequence[Row]) -> Iterator[str]:
    """What was planned and sent; where there are many phases, the warnings say what went wrong in which."""
    if len(together) != 1:
        return
    for mark, summary in zip(marks, together[0].summaries, strict=True):
        if summary is None:
            continue
        sent = f"{summary.sent:,} sent in {duration_text(summary.elapsed)}"
        if summary.rate_planned is None:
            yield f"{mark}rate {rate_text(summary.rate_sent)}: {sent}"
        else:
            rates = f"rate {rate_text(summary.rate_sent)} of {rate_text(summary.rate_planned)} planned"
            yield f"{mark}{rates}: {sent}, {summary.late:,} late, {summary.unsent:,} unsent"


def _notes(runs: Sequence[Run], together: Sequence[Row]) -> Iterator[str]:
    summaries = [summary for row in together for summary in row.summaries if summary is not None]
    if any(summary.where is not None and summary.where.queue is None for summary in summaries):
        yield NO_TIMES
    if any(isinstance(outcome.phase.load, ClosedLoop) for run in runs for outcome in run.outcomes):
        yield CLOSED


def _warnings(marks: Sequence[str], together: Sequence[Row]) -> Iterator[str]:
    """With what they are about, where there is more than one of it."""
    for row in together:
        for mark, summary in zip(marks, row.summaries, strict=True):
            if summary is None:
                continue
            about = mark.strip() if len(together) == 1 else f"{mark}{summary.load}"
            yield from (f"{about}: {warning}" if about else warning for warning in summary.warnings)
