"""The table of all figures of a page: a column per phase, with differences from the first run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from headrace.client.load.formatting import duration_text, number_text, share_text
from headrace.client.load.report.confidence import COMPARED_FIGURES
from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.page.markup import Better, change, sentence, swatch, text
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.summary import Summary

PERCENTILES = {"mean": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p99_9": "p99.9", "max": "max"}
PARTS = ("window", "connection", "machine", "client", "network", "queue", "inference")


PAPER_COLUMNS = 7
"""Paper has no scroll bar: there, a table of more columns is several, one below the other."""


class Row(NamedTuple):
    name: str
    value: Callable[[Summary], float | None]
    better: Better
    format: Callable[[float], str] = number_text
    figure: str = ""
    """Its name in `confidence.COMPARED_FIGURES`, if it is one of them."""
    bound: Callable[[Summary], bool] = lambda _: False
    """Whether the value is only a lower bound."""


class Group(NamedTuple):
    name: str
    rows: list[Row]


def table(content: PageContent) -> str:
    """The table as HTML."""
    notes = ["Small numbers: the difference from the first run. ~: within noise."] if len(content.runs) > 1 else []
    if any(each.summary.latency and each.summary.latency.at_least for each in content.series):
        notes.append("≥: in the latency, requests without an answer count as at least their wait.")
    caption = f'<p class="beside">{" ".join(notes)}</p>' if notes else ""
    columns = content.side_by_side
    kind = "single" if len(columns) == 1 else "wide" if len(columns) > PAPER_COLUMNS else "narrow"
    tables = f'<div class="scroll" tabindex="0">{_table(content, columns, kind)}</div>'
    if kind == "wide":
        parts = (columns[at : at + PAPER_COLUMNS] for at in range(0, len(columns), PAPER_COLUMNS))
        tables += "".join(_table(content, part, "paper") for part in parts)
    return (
        f'<section class="card"><p class="kicker">Figures</p><h2>Everything in numbers</h2>{caption}{tables}</section>'
    )


def _table(content: PageContent, columns: Sequence[Series], kind: str) -> str:
    heads = "".join(
        f'<th scope="col" title="{text(each.label)}">{swatch(each.colour)} {text(each.label)}</th>' for each in columns
    )
    body = "".join(_group(content, group, columns) for group in _groups())
    head = f'<thead><tr><th scope="col"></th>{heads}</tr></thead>'
    return f'<table class="{kind}">{head}{body}</table>'


def _groups() -> list[Group]:
    return [
        Group(
            "Rate and throughput",
            [
                Row("planned, /s", lambda summary: summary.rate_planned, "neither"),
                Row("sent, /s", lambda summary: summary.rate_sent, "neither"),
                Row("throughput, /s", lambda summary: summary.throughput, "more", figure="throughput"),
            ],
        ),
        Group(
            "Requests",
            [
                Row("planned", lambda summary: summary.planned, "neither", _count),
                Row("sent", lambda summary: summary.sent, "neither", _count),
                Row("never sent", lambda summary: summary.unsent, "less", _count),
                Row("sent late", lambda summary: summary.late, "less", _count),
                Row("delayed by the window", lambda summary: summary.delays.window.requests, "less", _count),
                Row("delayed by the connection", lambda summary: summary.delays.connection.requests, "less", _count),
                Row("delayed by the network", lambda summary: summary.delays.network.requests, "less", _count),
                Row("delayed by the machine", lambda summary: summary.delays.machine.requests, "less", _count),
                Row("delayed by this client", lambda summary: summary.delays.processor.requests, "less", _count),
                Row("plan kept, %", lambda summary: summary.plan_kept, "more", share_text),
                Row("succeeded", lambda summary: summary.ok, "neither", _count),
                Row("failed", lambda summary: sum(summary.errors.values()), "less", _count),
                Row("not answered", lambda summary: summary.no_answer, "less", _count),
            ],
        ),
        Group("Latency", list(_durations("latency"))),
        Group("Latency of answers", list(_durations("answered"))),
        Group("Service time", list(_durations("service"))),
        Group("Where the time went, means", list(_parts("breakdown"))),
        Group("Slowest 1 %, means", list(_parts("slowest"))),
    ]


def _durations(which: str) -> Iterator[Row]:
    for field, name in PERCENTILES.items():
        figure = field if which == "latency" and field in COMPARED_FIGURES else ""
        bound = partial(_is_lower_bound, which, field)
        yield Row(name, partial(_seconds, which, field), "less", duration_text, figure, bound)


def _parts(which: str) -> Iterator[Row]:
    for part in PARTS:
        yield Row(part, partial(_seconds, which, part), "less", duration_text)


def _seconds(figures: str, field: str, summary: Summary) -> float | None:
    seconds: float | None = getattr(getattr(summary, figures), field, None)
    return seconds


def _is_lower_bound(figures: str, field: str, summary: Summary) -> bool:
    durations: Percentiles | None = getattr(summary, figures)
    return durations is not None and field in durations.at_least


def _group(content: PageContent, group: Group, columns: Sequence[Series]) -> str:
    head = f'<tr class="group"><th scope="rowgroup" colspan="{len(columns) + 1}">{group.name}</th></tr>'
    rows = (
        f'<tr><th scope="row">{row.name}</th>{"".join(_cell(content, each, row) for each in columns)}</tr>'
        for row in group.rows
        if any(row.value(each.summary) is not None for each in content.series)
    )
    inside = "".join(rows)
    return f"<tbody>{head}{inside}</tbody>" if inside else ""


def _cell(content: PageContent, each: Series, row: Row) -> str:
    value, base = row.value(each.summary), content.baseline(each)
    if value is None:
        return "<td>-</td>"
    beside = change(row.value(base.summary), value, row.better, content.differs(each, row.figure)) if base else ""
    return f"<td>{'≥' if row.bound(each.summary) else ''}{sentence(row.format(value))}{beside}</td>"


def _count(value: float) -> str:
    return f"{value:,.0f}"
