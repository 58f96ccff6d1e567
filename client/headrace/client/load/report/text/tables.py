"""The tables of the text report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from rich.table import Table
from rich.text import Text

from headrace.client.load.formatting import change_text, ms_text, number_text, share_text
from headrace.client.load.report.breakdown import TimeBreakdown
from headrace.client.load.report.confidence import COMPARED_FIGURES
from headrace.client.load.report.differences import NOTABLE_PERCENT, ComparisonRow, difference
from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.repetitions import Repetitions
from headrace.client.load.report.summary import PLAN_KEPT_PERCENT, Summary

FIGURE_HEADINGS = (
    "LOAD",
    "THROUGHPUT\nper s",
    "PLAN\n%",
    "P50\nms",
    "P90\nms",
    "P99\nms",
    "P99.9\nms",
    "MAX\nms",
    "ERRORS",
)
PART_HEADINGS = ("CLIENT\n░", "NETWORK\n▒", "QUEUE\n▓", "INFERENCE\n█", "LATENCY", "")
BREAKDOWN_HEADINGS = ("WHERE THE TIME WENT\nmean ms", *PART_HEADINGS)
WAITED_HEADINGS = ("WHERE THE TIME\nWENT, mean ms", "WAITING\n·", *PART_HEADINGS)
"""If requests waited for room in the window, or for a connection."""
PERCENTILES = ("p50", "p90", "p99", "p99_9", "max")
BAR_CHARACTERS, WAITED_BAR_CHARACTERS = 15, 11
"""The second leaves room for the column of the waits."""
NOTABLE_WAIT_SHARE = 0.02
"""Waits that are a smaller share of the latency have no column of their own, and are shown with the client's time."""
FILLS = {"·": "red", "░": "yellow", "▒": "blue", "▓": "magenta", "█": "green"}
WITHIN_NOISE = "~"
BAD, GOOD, QUIET = "red", "green", "dim"


def table_of(headings: Sequence[str]) -> Table:
    """A table whose first column is text and may wrap; the others are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for at, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if at and heading else "left"
        table.add_column(heading, justify=justify, no_wrap=at > 0, overflow="fold")
    return table


def figures_table(marks: Sequence[str], together: Sequence[ComparisonRow]) -> Table:
    """A row for each phase of each run, with differences from the first run, and service times if there is one load.

    `marks` are the beginnings of each run's rows.
    """
    table = table_of(FIGURE_HEADINGS)
    for row in together:
        base = row.summaries[0]
        for at, (mark, summary) in enumerate(zip(marks, row.summaries, strict=True)):
            if summary is None:
                continue
            table.add_row(f"{mark}{summary.load}", *_phase_cells(summary))
            if len(together) == 1:
                rows = {"answered": summary.answered, "service time": summary.service}
                for name, durations in rows.items():
                    if name != "answered" or summary.answered != summary.latency:
                        cells = _percentile_texts(durations)
                        table.add_row(f"{' ' * len(mark)}{name}", "", "", *cells, "", style=QUIET)
            sure = _half_widths(row.repetitions[at])
            if sure:
                table.add_row(f"{' ' * len(mark)}± at 95 %", *sure, style=QUIET)
            if base is not None and summary is not base:
                table.add_row(f"{mark}against {marks[0].strip()}", *_changes(base, summary, row, at))
    return table


def _phase_cells(summary: Summary) -> list[Text]:
    kept = "-" if summary.rate_planned is None else share_text(summary.plan_kept)
    cells = [
        Text(number_text(summary.throughput)),
        Text(kept, BAD if kept != "-" and summary.plan_kept < PLAN_KEPT_PERCENT else ""),
    ]
    cells += map(Text, _percentile_texts(summary.latency))
    return [*cells, Text(f"{summary.failed:,}", f"bold {BAD}" if summary.failed else "")]


def _percentile_texts(durations: Percentiles | None) -> list[str]:
    return [percentile_text(durations, name) for name in PERCENTILES]


def percentile_text(durations: Percentiles | None, name: str) -> str:
    """In milliseconds. A lower bound is marked as such."""
    bound = "≥" if durations is not None and name in durations.at_least else ""
    return bound + ms_text(_percentile(durations, name))


def _percentile(durations: Percentiles | None, name: str) -> float | None:
    found: float | None = getattr(durations, name, None)
    return found


def _half_widths(measured: Repetitions | None) -> list[str]:
    """How far the true figures may be from those in the row; empty without repetitions."""
    if measured is None or len(measured.outcomes) < 2:
        return []
    halves = {name: None if (found := measured.interval(name)) is None else found.half for name in COMPARED_FIGURES}
    throughput = halves["throughput"]
    cells = [ms_text(halves.get(name)) for name in PERCENTILES if name in halves]
    return ["-" if throughput is None else number_text(throughput), "", *cells]


def _changes(base: Summary, summary: Summary, row: ComparisonRow, at: int) -> list[Text]:
    """More throughput is better, more latency is worse; what is small, or may be chance, is plain."""
    change = difference(base.throughput, summary.throughput)
    cells = [_change(change, 1, row.differs(at, "throughput")), Text()]
    for name in PERCENTILES:
        change = difference(_percentile(base.latency, name), _percentile(summary.latency, name))
        cells.append(_change(change, -1, row.differs(at, name) if name in COMPARED_FIGURES else None))
    return cells


def _change(percent: float | None, better: int, differs: bool | None) -> Text:
    text = change_text(percent)
    if differs is False and text != change_text(0):
        return Text(f"{WITHIN_NOISE} {text}")
    noticed = differs and percent is not None and abs(percent) >= NOTABLE_PERCENT
    colour = (GOOD if (percent or 0) * better > 0 else BAD) if noticed else ""
    return Text(text, colour)


def breakdown_table(marks: Sequence[str], together: Sequence[ComparisonRow]) -> Table:
    """Where the time went, in numbers and as a bar. Without rows if nothing succeeded."""
    summaries = [summary for row in together for summary in row.summaries if summary is not None]
    breakdowns = [each for summary in summaries for each in (summary.breakdown, summary.slowest) if each is not None]
    waited = any(each.waiting > NOTABLE_WAIT_SHARE * each.total for each in breakdowns)
    table = table_of(WAITED_HEADINGS if waited else BREAKDOWN_HEADINGS)
    for row in together:
        for mark, summary in zip(marks, row.summaries, strict=True):
            if summary is None or summary.breakdown is None:
                continue
            alone = len(together) == 1 and not mark
            table.add_row(
                "all requests" if alone else f"{mark}{summary.load}", *_breakdown_cells(summary.breakdown, waited)
            )
            if len(together) == 1 and summary.slowest and summary.slowest.queue is not None:
                table.add_row(f"{' ' * len(mark)}slowest 1 %", *_breakdown_cells(summary.slowest, waited))
    return table


def _breakdown_cells(breakdown: TimeBreakdown, waited: bool) -> list[str | Text]:
    parts = (breakdown.waiting, breakdown.client, breakdown.network, breakdown.queue, breakdown.inference)
    if not waited:
        parts = (0.0, breakdown.waiting + breakdown.client, *parts[2:])
    bar = _bar([part or 0.0 for part in parts], WAITED_BAR_CHARACTERS if waited else BAR_CHARACTERS)
    return [*map(ms_text, parts if waited else parts[1:]), ms_text(breakdown.total), bar]


def _bar(parts: Sequence[float], characters: int) -> Text:
    """A bar in which each part has its share of the characters."""
    whole = sum(parts) or 1.0
    # Halves round up whatever the last digits of the floats, so that equal shares always look equal.
    ends = [int(round(characters * end / whole, 6) + 0.5) for end in accumulate(parts)]
    bar = Text()
    for (fill, colour), start, end in zip(FILLS.items(), [0, *ends], ends, strict=False):
        bar.append(fill * (end - start), colour)
    return bar
