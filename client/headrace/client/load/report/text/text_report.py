"""The report that `headrace load` and `headrace report` print: one screen, in a terminal or a log."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.client.load.formatting import counted, duration_text, rate_text
from headrace.client.load.planning.phases import ClosedLoop, Phase
from headrace.client.load.record.run import Run, RunSettings
from headrace.client.load.report.comparability import unlike
from headrace.client.load.report.confidence import PARTS
from headrace.client.load.report.differences import ComparisonRow, comparison_rows
from headrace.client.load.report.rate_search import FoundRate, found_rate
from headrace.client.load.report.text.search_table import limit_warnings, search_table
from headrace.client.load.report.text.tables import BAD, QUIET, WITHIN_NOISE, breakdown_table, figures_table
from headrace.client.terminal.printing import NO_WRAP_WIDTH, printable

MIN_COLUMNS = 80
"""In fewer, the tables would lose columns; a narrower terminal breaks the lines instead."""
MAX_INPUTS_SHOWN = 3
CLOSED_LOOP_NOTE = "A closed loop sends less to a slow server; --rate shows what users would see."
NOISE_NOTE = "~: within noise, no more than chance would explain at 95 %, by a t test over {values}."
NO_SERVER_TIMES_NOTE = "Where QUEUE is -, the server reports no times, so NETWORK includes the server."


def print_report(runs: Sequence[Run], file: TextIO | None = None, width: int | None = None) -> None:
    """As wide as the terminal. If the file is not a terminal, without colours and without breaking lines."""
    file = file or sys.stdout
    width = width or (None if file.isatty() else NO_WRAP_WIDTH)
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    console.width = max(console.width, MIN_COLUMNS)
    with console.capture() as capture:
        for part in _parts(runs):
            console.print(part)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=file)


def _parts(runs: Sequence[Run]) -> Iterator[RenderableType]:
    marks = [f"{_mark(at)} " for at in range(len(runs))] if len(runs) > 1 else [""]
    searches = [found_rate(run) for run in runs]
    yield from (_title(mark, run) for mark, run in zip(marks, runs, strict=True))
    yield Text()
    if len(runs) == 1 and searches[0] is not None:
        yield from _search(searches[0])
        return
    for mark, found in zip(marks, searches, strict=True):
        if found is not None:
            yield Text(f"{mark}{found.sentence}")
    together = comparison_rows(runs)
    figures = figures_table(marks, together)
    yield figures
    yield from (Text(line, QUIET) for line in _counts(marks, together))
    noisy = any(str(cell).startswith(WITHIN_NOISE) for column in figures.columns for cell in column.cells)
    table = breakdown_table(marks, together)
    if table.row_count:
        yield Text()
        yield table
    yield from (Text(line, QUIET) for line in _notes(runs, together, noisy=noisy))
    yield from _warning_lines([*_unlike(marks, runs), *_warnings(marks, together)])


def _search(found: FoundRate) -> Iterator[RenderableType]:
    yield search_table(found)
    yield Text()
    yield Text(found.sentence, "bold")
    yield from _warning_lines(limit_warnings(found))


def _warning_lines(warnings: Iterable[str]) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for warning in warnings:
        grid.add_row(Text("!", f"bold {BAD}"), Text(warning, BAD))
    if grid.row_count:
        yield Text()
        yield grid


def _mark(at: int) -> str:
    """The name of a run among several: A, B, C, ..."""
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


def _how(settings: RunSettings, phases: Sequence[Phase]) -> str:
    connection = "stream" if settings.mode == "stream" else "connection"
    processes = f"{settings.processes} processes" if settings.processes != 1 else "1 process"
    setup = f"{counted(settings.streams, connection)}, window {settings.window}, {processes}"
    spans = dict.fromkeys(map(_span, phases))
    return " · ".join((setup, *list(spans)[:1], f"{printable(settings.started)[:16].replace('T', ' ')} UTC"))


def _span(phase: Phase) -> str:
    measured = counted(phase.count or 0, "request") if phase.duration is None else f"{phase.duration:g} s"
    return f"{measured} (warm-up {phase.warmup:g} s)"


def _inputs(settings: RunSettings) -> str:
    more = len(settings.inputs) - MAX_INPUTS_SHOWN
    inputs = ", ".join(map(printable, settings.inputs[:MAX_INPUTS_SHOWN])) + (f" and {more} more" if more > 0 else "")
    outputs = "all" if settings.outputs is None else ", ".join(map(printable, settings.outputs)) or "none"
    return f"inputs {inputs or 'none'} · outputs {outputs}" + (
        f" · keeps {len(settings.keep)}" if settings.keep else ""
    )


def _counts(marks: Sequence[str], together: Sequence[ComparisonRow]) -> Iterator[str]:
    """What was planned and sent. With several phases, only the warnings say what went wrong in each."""
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


def _notes(runs: Sequence[Run], together: Sequence[ComparisonRow], *, noisy: bool) -> Iterator[str]:
    if noisy:
        repeated = all(run.settings.repeat > 1 for run in runs)
        yield NOISE_NOTE.format(values="the repetitions" if repeated else f"{PARTS} parts of each run")
    summaries = [summary for row in together for summary in row.summaries if summary is not None]
    if any(summary.breakdown is not None and summary.breakdown.queue is None for summary in summaries):
        yield NO_SERVER_TIMES_NOTE
    if any(isinstance(outcome.phase.load, ClosedLoop) for run in runs for outcome in run.outcomes):
        yield CLOSED_LOOP_NOTE


def _unlike(marks: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """What makes comparing a run with the first say something else as well."""
    for mark, run in zip(marks[1:], runs[1:], strict=True):
        if found := unlike(runs[0], run):
            yield f"{mark.strip()} was not measured like {marks[0].strip()}: {'; '.join(found)}"


def _warnings(marks: Sequence[str], together: Sequence[ComparisonRow]) -> Iterator[str]:
    """The warnings, each with the run and the load it is about if there are several."""
    for row in together:
        for mark, summary in zip(marks, row.summaries, strict=True):
            if summary is None:
                continue
            about = mark.strip() if len(together) == 1 else f"{mark}{summary.load}"
            yield from (f"{about}: {warning}" if about else warning for warning in summary.warnings)
