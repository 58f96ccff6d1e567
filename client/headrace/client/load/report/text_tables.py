"""The tables of a report that is printed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from rich.table import Table
from rich.text import Text

from headrace.client.load.report.differences import NOTICED, Row, difference
from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.formats import change_text, ms_text, number_text, share_text
from headrace.client.load.report.summary import KEPT, Summary, Where

FIGURES = ("LOAD", "THROUGHPUT\nper s", "PLAN\n%", "P50\nms", "P90\nms", "P99\nms", "P99.9\nms", "MAX\nms", "ERRORS")
WHERE = ("WHERE THE TIME WENT\nmean ms", "CLIENT\n░", "NETWORK\n▒", "QUEUE\n▓", "INFERENCE\n█", "LATENCY", "")
PERCENTILES = ("p50", "p90", "p99", "p99_9", "max")
BAR = 15
"""Characters."""
FILLS = {"░": "yellow", "▒": "blue", "▓": "magenta", "█": "green"}
BAD, GOOD, QUIET = "red", "green", "dim"


def _table(headings: Sequence[str]) -> Table:
    """The first column is text, and may be broken; the others are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for at, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if at and heading else "left"
        table.add_column(heading, justify=justify, no_wrap=at > 0, overflow="fold")
    return table


def figures_table(marks: Sequence[str], together: Sequence[Row]) -> Table:
    """A row for each phase, of all runs; differences to the first run; service times when there is but one load.

    `marks` begin the rows of each run.
    """
    table = _table(FIGURES)
    for row in together:
        base = row.summaries[0]
        for mark, summary in zip(marks, row.summaries, strict=True):
            if summary is None:
                continue
            table.add_row(f"{mark}{summary.load}", *_phase_cells(summary))
            if len(together) == 1:
                cells = _percentile_texts(summary.service)
                table.add_row(f"{' ' * len(mark)}service time", "", "", *cells, "", style=QUIET)
            if base is not None and summary is not base:
                table.add_row(f"{mark}against {marks[0].strip()}", *_changes(base, summary))
    return table


def _phase_cells(summary: Summary) -> list[Text]:
    kept = "-" if summary.rate_planned is None else share_text(summary.plan_kept)
    cells = [Text(number_text(summary.throughput)), Text(kept, BAD if kept != "-" and summary.plan_kept < KEPT else "")]
    cells += map(Text, _percentile_texts(summary.latency))
    return [*cells, Text(f"{summary.failed:,}", f"bold {BAD}" if summary.failed else "")]


def _percentile_texts(durations: Percentiles | None) -> list[str]:
    return [ms_text(_percentile(durations, name)) for name in PERCENTILES]


def _percentile(durations: Percentiles | None, name: str) -> float | None:
    return None if durations is None else float(getattr(durations, name))


def _changes(base: Summary, summary: Summary) -> list[Text]:
    """More throughput is better, more latency is worse; what few percent say is left without a colour."""
    cells = [_change(difference(base.throughput, summary.throughput), 1), Text()]
    for name in PERCENTILES:
        change = difference(_percentile(base.latency, name), _percentile(summary.latency, name))
        cells.append(_change(change, -1))
    return cells


def _change(percent: float | None, better: int) -> Text:
    noticed = percent is not None and abs(percent) >= NOTICED
    colour = (GOOD if (percent or 0) * better > 0 else BAD) if noticed else ""
    return Text(change_text(percent), colour)


def where_table(marks: Sequence[str], together: Sequence[Row]) -> Table:
    """Where the time went, in numbers and as a bar of shares; without rows when nothing succeeded."""
    table = _table(WHERE)
    for row in together:
        for mark, summary in zip(marks, row.summaries, strict=True):
            if summary is None or summary.where is None:
                continue
            alone = len(together) == 1 and not mark
            table.add_row("all requests" if alone else f"{mark}{summary.load}", *_where_cells(summary.where))
            if len(together) == 1 and summary.slowest and summary.slowest.queue is not None:
                table.add_row(f"{' ' * len(mark)}slowest 1 %", *_where_cells(summary.slowest))
    return table


def _where_cells(where: Where) -> list[str | Text]:
    parts = (where.client, where.network, where.queue, where.inference)
    return [*map(ms_text, parts), ms_text(where.total), _bar([part or 0.0 for part in parts])]


def _bar(parts: Sequence[float]) -> Text:
    """The share of each part in characters, so that they fill the bar together."""
    whole = sum(parts) or 1.0
    # Halves go up, whatever the last digits of floats are, so that equal shares look equal everywhere.
    ends = [int(round(BAR * end / whole, 6) + 0.5) for end in accumulate(parts)]
    bar = Text()
    for (fill, colour), start, end in zip(FILLS.items(), [0, *ends], ends, strict=False):
        bar.append(fill * (end - start), colour)
    return bar
