"""The plots of a page, except those over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from headrace.client.load.formatting import duration_text, rate_text
from headrace.client.load.planning.phases import ClosedLoop
from headrace.client.load.report.breakdown import TimeBreakdown
from headrace.client.load.report.chunked import service_times
from headrace.client.load.report.distribution import Percentiles, quantiles
from headrace.client.load.report.page.drawing import (
    HOVER_NAME,
    Figure,
    Json,
    axis_of,
    duration_axis,
    heading,
    layout_of,
    limit_line,
    line_of,
    linear_duration_axis,
    ms,
    plain,
    shortened,
    title_of,
    visible_limits,
)
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.summary import curve

AXIS_PERCENTILES = ("50", "90", "99", "99.9", "99.99", "99.999", "99.9999")
PARTS = {
    "window": "waiting for the window",
    "connection": "waiting for a connection",
    "machine": "waiting for a processor",
    "client": "client",
    "network": "network",
    "queue": "queue",
    "inference": "inference",
}
"""The parts of the time, and what they are called."""
SAME_LINE_RATIO = 1.02
"""Latencies up to this many times the service time look like the same line."""
MIN_TEXT_SHARE = 0.13
"""A bar narrower than this share of the plot has no room for its number."""


def percentiles(content: PageContent) -> Figure | None:
    """Latency over 1/(1-p), in open loops with service time beside it. None if nothing succeeded.

    If several runs have several phases, only the phase with the highest throughput of each run.
    """
    data = []
    few = content.best_phases if content.by_run or content.found else content.series
    for each in few:
        if not each.closed:
            served = quantiles(service_times(each.outcome.samples))
            data.append(_percentile_line(each, served, "service time", "dash"))
        data.append(_percentile_line(each, curve(each.outcome), "latency", "solid"))
    data = [line for line in data if line["x"]]
    if not data:
        return None
    end = max(line["x"][-1] for line in data)
    ticks = [1 / (1 - float(share) / 100) for share in AXIS_PERCENTILES]
    shares = [f"{share} %" for share in AXIS_PERCENTILES]
    x = {
        "type": "log",
        "range": [0, math.log10(end) * 1.02 or 0.3],
        "tickvals": ticks,
        "ticktext": shares,
        "title": title_of("percentile of the requests"),
    }
    key = [("solid", "latency, from when a request was due")]
    if any(line["line"]["dash"] == "dash" for line in data):
        hidden = "the same here" if all(map(_same, content.series)) else "hides the wait before sending"
        key.append(("dash", f"service time, from when it was sent: {hidden}"))
    layout = layout_of(x, duration_axis(value for line in data for value in line["y"]))
    for seconds in visible_limits(content.limits, layout["yaxis"]):
        layout.setdefault("shapes", []).append(limit_line(seconds))
        key.append(("limit", f"the limit, {duration_text(seconds)}"))
    return Figure(data, layout, key)


def sweep(content: PageContent) -> Figure | None:
    """Throughput over concurrency, and latency below it. None for fewer than two concurrencies."""
    data: list[Json] = []
    tried: set[int] = set()
    for run in range(len(content.runs)):
        points = [each for each in content.series if each.run == run and each.closed and each.summary.latency]
        points.sort(key=_concurrency)
        if len(points) < 2:
            continue
        x = [_concurrency(each) for each in points]
        tried.update(x)
        data += _sweep_lines(points, x, f"@s{run}" if content.by_run else "@accent", content.by_run)
    if len(tried) < 2:
        return None
    ticks = sorted(tried)
    edges = [math.log10(ticks[0]) - 0.06, math.log10(ticks[-1]) + 0.06]
    axis = {"type": "log", "range": edges, "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}
    throughputs = [value for line in data if line["yaxis"] == "y" for value in line["y"]]
    y = {"domain": [0.57, 1], "range": [0, max(throughputs) * 1.2], "ticksuffix": "/s", "tickformat": ","}
    layout = layout_of(axis | {"anchor": "y2", "title": title_of("requests in flight")}, y)
    layout["yaxis2"] = axis_of(duration_axis([v for line in data if line["yaxis"] == "y2" for v in line["y"]]))
    layout["yaxis2"]["domain"] = [0, 0.43]
    layout["annotations"] = [heading("Throughput", 1), heading("Latency: p99 solid, p50 dashed", 0.43)]
    layout["margin"]["t"] = 40
    return Figure(data, layout, [], "tall")


def time_breakdown(content: PageContent) -> Figure | None:
    """A bar for each phase: the mean time of a request, and where it went."""
    bars = [(each, each.summary.breakdown) for each in content.side_by_side if each.summary.breakdown]
    if not bars:
        return None
    widest = max(ms(parts.total) or 0.0 for _, parts in bars)
    data = [_part(bars, name, widest) for name in PARTS]
    texts = [f"{plain(shortened(each.label))}: {duration_text(parts.total)}" for each, parts in bars]
    y = {"range": [len(bars) - 0.45, -0.75], "visible": False, "fixedrange": True}
    x = linear_duration_axis(widest * 1.01)
    layout = layout_of(x, y) | {"barmode": "stack", "bargap": 0.45, "uniformtext": {"minsize": 12, "mode": "hide"}}
    layout["margin"] |= {"l": 12, "r": 24, "t": 4, "b": 34}
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    font = {"size": 13, "color": "@ink"}
    layout["annotations"] = [place | {"y": at - 0.29, "text": text, "font": font} for at, text in enumerate(texts)]
    data = [part for part in data if any(part["x"])]
    return Figure(data, layout, [(part["marker"]["color"][1:], part["name"]) for part in data], "bars")


def _percentile_line(each: Series, points: Sequence[tuple[float, float]], name: str, dash: str) -> Json:
    line = line_of(each, [1 / (1 - share) for share, _ in points], [ms(value) for _, value in points], dash, 2.2)
    line["customdata"] = [f"{100 * share:.6g}" for share, _ in points]
    line["text"] = [duration_text(value) for _, value in points]
    line["hovertemplate"] = f"{name}, %{{customdata}} %: %{{text}}{HOVER_NAME}"
    return line | ({"opacity": 0.75} if dash == "dash" else {})


def _same(each: Series) -> bool:
    """Whether latency and service time would look like one line."""
    latency, service = each.summary.latency, each.summary.service
    if latency is None or service is None:
        return True
    return all(
        (getattr(latency, name) or 0.0) <= SAME_LINE_RATIO * (getattr(service, name) or 0.0)
        for name in ("p50", "p90", "p99", "p99_9", "max")
    )


def _sweep_lines(points: Sequence[Series], x: list[int], colour: str, grouped: bool) -> list[Json]:
    """A line of throughput, and lines of p50 and p99 for the plot below it."""
    rate = [each.summary.throughput for each in points]
    best = rate.index(max(rate))
    places = ["top right"] + ["top center"] * (len(rate) - 2) + ["top left"]
    texts = [rate_text(value) if at == best else "" for at, value in enumerate(rate)]
    latencies: list[Percentiles] = [each.summary.latency for each in points if each.summary.latency]
    lines = [
        ("y", rate, "solid", "%{y:,.4~g}/s", {"text": texts, "textposition": places, "mode": "lines+markers+text"}),
        (
            "y2",
            [ms(each.p50) for each in latencies],
            "dash",
            "p50 %{customdata}",
            _spoken(each.p50 for each in latencies),
        ),
        (
            "y2",
            [ms(each.p99) for each in latencies],
            "solid",
            "p99 %{customdata}",
            _spoken(each.p99 for each in latencies),
        ),
    ]
    name = plain(points[0].name) if grouped else ""
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": x,
            "y": y,
            "yaxis": axis,
            "line": {"color": colour, "width": 2.2, "dash": dash},
            "marker": {"color": colour, "size": 8},
            "textfont": {"color": "@ink", "size": 13},
            "cliponaxis": False,
            "hovertemplate": f"%{{x}} in flight: {hover}{HOVER_NAME}",
            "name": name,
            "legendgroup": f"s{points[0].colour}" if grouped else "",
        }
        | more
        for axis, y, dash, hover, more in lines
    ]


def _spoken(durations: Iterable[float | None]) -> Json:
    return {"customdata": ["-" if seconds is None else duration_text(seconds) for seconds in durations]}


def _part(bars: Sequence[tuple[Series, TimeBreakdown]], name: str, widest: float) -> Json:
    values = [ms(getattr(parts, name)) or 0.0 for _, parts in bars]
    alone = name == "network" and all(parts.queue is None for _, parts in bars)
    label = "network and server" if alone else PARTS[name]
    return {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": list(range(len(bars))),
        "marker": {"color": f"@{name}", "line": {"width": 1, "color": "@surface"}},
        "text": [duration_text(value / 1e3) if value > MIN_TEXT_SHARE * widest else "" for value in values],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": "@on-part", "size": 13},
        "name": label,
        "customdata": [
            [plain(each.label), duration_text(value / 1e3)] for (each, _), value in zip(bars, values, strict=True)
        ],
        "hovertemplate": f"{label}: %{{customdata[1]}}<extra>%{{customdata[0]}}</extra>",
    }


def _concurrency(each: Series) -> int:
    load = each.outcome.phase.load
    return load.concurrency if isinstance(load, ClosedLoop) else 0
