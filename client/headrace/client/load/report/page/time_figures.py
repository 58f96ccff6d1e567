"""The plots over the time of a run, one phase after the other. Pure."""

from __future__ import annotations

import numpy as np

from headrace.client.load.formatting import duration_text, time_of_day
from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.samples import NO_ANSWER
from headrace.client.load.report.page.drawing import (
    HOVER_NAME,
    Figure,
    Json,
    duration_axis,
    layout_of,
    limit_line,
    line_of,
    ms,
    plain,
    round_steps,
    title_of,
    visible_limits,
)
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.summary import code_name
from headrace.client.load.report.timeline import MAX_BUCKETS, Bucket, time_buckets

MIN_BUCKETS = 24
MAX_CLOCK_TICKS = 4
"""So that a phone has room for their texts."""
MAX_CROSSES = 40
MIN_CROSSES = 8
"""Few enough to stand apart on a phone."""
MIN_SAMPLES_FOR_P99 = 120
"""On average per bucket: p99 needs a hundred."""
MIN_SAMPLES_PER_RATE = 20
"""On average per bucket: the rate of fewer requests jumps just because they are few."""


def latency(content: PageContent) -> Figure | None:
    """Median, p99 and maximum latency over time, with the errors below them."""
    data: list[Json] = []
    crosses: list[Json] = []
    for each in content.timed:
        fine = time_buckets(each.outcome, _buckets(content))
        wide = time_buckets(each.outcome, min(len(fine), max(1, each.summary.ok // MIN_SAMPLES_FOR_P99)))
        lines = (("max", "dot", 1.0, fine), ("p99", "solid", 2.0, wide), ("p50", "dash", 2.0, fine))
        for name, dash, width, buckets in lines:
            moments = [each.offset + bucket.start + bucket.width / 2 for bucket in buckets]
            values = [ms(getattr(bucket, name)) for bucket in buckets]
            line = line_of(each, moments, values, dash, width)
            line["text"] = [duration_text((value or 0.0) / 1e3) for value in values]
            line["hovertemplate"] = f"{name} at %{{x:.4~g}} s: %{{text}}{HOVER_NAME}"
            data.append(line)
        if each.summary.failed:
            crosses.append(_crosses(each, max(MIN_CROSSES, MAX_CROSSES // len(content.timed))))
    values = [value for line in data for value in line["y"] if value is not None]
    if not values and not crosses:
        return None
    layout = layout_of(time_axis(content), duration_axis(values))
    key = [("dash", "p50"), ("solid", "p99"), ("dot", "slowest")] if values else []
    phases(content, layout)
    for seconds in visible_limits(content.limits, layout["yaxis"]):
        layout.setdefault("shapes", []).append(limit_line(seconds))
        key.append(("limit", f"the limit, {duration_text(seconds)}"))
    if crosses:
        layout["yaxis"] |= {"domain": [0.14, 1], "visible": bool(values)}
        layout["yaxis2"] = {"domain": [0, 0.07 if values else 1], "range": [-1, 1], "fixedrange": True, "tickvals": [0]}
        layout["yaxis2"] |= {"ticktext": ["errors"], "showgrid": False, "zeroline": True, "zerolinecolor": "@grid"}
        layout["yaxis2"] |= {"tickfont": {"color": "@bad"}}
        layout["xaxis"]["anchor"] = "y2"
        key.append(("cross", "failed or not answered"))
    return Figure(data + crosses, layout, key, "" if values else "flat")


def rates(content: PageContent) -> Figure | None:
    """Requests planned, sent and answered per second, in open loops."""
    data = [line for each in content.timed for line in _rate_lines(each, _buckets(content))]
    if not data:
        return None
    layout = layout_of(time_axis(content), {"ticksuffix": "/s", "rangemode": "tozero", "tickformat": ","})
    phases(content, layout)
    return Figure(data, layout, [("dot", "planned"), ("dash", "sent"), ("solid", "answered")])


def _rate_lines(each: Series, most: int) -> list[Json]:
    load, samples = each.outcome.phase.load, each.outcome.samples
    buckets = time_buckets(each.outcome, min(most, max(1, samples.count // MIN_SAMPLES_PER_RATE)))
    if not isinstance(load, OpenLoop) or not buckets or not each.summary.rate_planned:
        return []
    width = buckets[0].width
    moments = [each.offset + bucket.start + width / 2 for bucket in buckets]
    edges = [*(bucket.start for bucket in buckets), buckets[-1].start + width]
    counts = [np.histogram(np.clip(chunk.sent, 0, edges[-1]), edges)[0] for chunk in samples.chunks()]
    sent = np.sum(counts, axis=0) / width
    span = each.summary.planned / each.summary.rate_planned
    # After the plan ends there is nothing to send, which is not the same as a rate of 0.
    within = sum(edge <= span * 1.001 for edge in edges[1:])
    lines = {
        "planned": line_of(
            each, [each.offset, each.offset + span], [load.first, _last_rate(each, load, span)], "dot", 2.0
        ),
        "sent": line_of(each, moments[:within], sent[:within].tolist(), "dash", 1.5),
        "answered": line_of(each, moments, [bucket.throughput for bucket in buckets], "solid", 2.0),
    }
    for name, line in lines.items():
        line["hovertemplate"] = f"{name} at %{{x:.4~g}} s: %{{y:,.4~g}}/s{HOVER_NAME}"
    return list(lines.values())


def _last_rate(each: Series, load: OpenLoop, span: float) -> float:
    """The planned rate at the end of the part of the plan that was carried out."""
    phase = each.outcome.phase
    whole = phase.duration or 2 * (phase.count or 0) / (load.first + load.last)
    return load.first + (load.last - load.first) * min(1.0, span / whole if whole else 1.0)


def _crosses(each: Series, most: int) -> Json:
    """A cross for each stretch in which something failed."""
    failed = [bucket for bucket in time_buckets(each.outcome, most) if bucket.errors]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [each.offset + bucket.start + bucket.width / 2 for bucket in failed],
        "y": [0] * len(failed),
        "yaxis": "y2",
        "marker": {"symbol": "x", "size": 7, "color": "@bad"},
        "cliponaxis": False,
        "customdata": [bucket.errors for bucket in failed],
        "text": [_codes(bucket) for bucket in failed],
        "hovertemplate": f"errors about %{{x:.4~g}} s: %{{text}}{HOVER_NAME}",
        "name": plain(each.label),
        "legendgroup": f"s{each.colour}",
    }


def _codes(bucket: Bucket) -> str:
    """`14 UNAVAILABLE, 2 not answered`."""
    names = {code: "not answered" if code == NO_ANSWER else code_name(code) for code in bucket.codes}
    return ", ".join(f"{count:,} {names[code]}" for code, count in bucket.codes.items())


def _buckets(content: PageContent) -> int:
    """The number of buckets per series; fewer if there are many series, so that points stay apart."""
    return max(MIN_BUCKETS, MAX_BUCKETS // max(1, len(content.timed)))


def time_axis(content: PageContent) -> Json:
    """The time since the run began, and below it the time of day if that is known and there is one run."""
    end = max(each.offset + each.outcome.elapsed for each in content.timed)
    axis: Json = {"range": [0, end or 1.0], "title": title_of("time since the run began")}
    if not end or not content.has_clock:
        return axis | {"ticksuffix": " s"}
    ticks = round_steps(end, MAX_CLOCK_TICKS)
    texts = [f"{tick:,.10g} s<br>{_clock(content, tick)}" for tick in ticks]
    return axis | {
        "tickvals": ticks,
        "ticktext": texts,
        "title": title_of("time, and time of day (UTC)"),
    }


def _clock(content: PageContent, moment: float) -> str:
    """The time of day at a moment. Between two phases it jumps, as warm-ups are left out."""
    each = max((each for each in content.timed if each.offset <= moment), key=lambda each: each.offset)
    assert each.outcome.began is not None
    return time_of_day(each.outcome.began + moment - each.offset)


def phases(content: PageContent, layout: Json) -> None:
    """Mark where each phase begins, with its load above in as few characters as possible."""
    if content.has_clock:
        layout["margin"]["b"] = 66  # for two lines of text
    if len(content.timed) <= len(content.runs):
        return
    starts = {each.offset: each for each in reversed(content.timed)}
    dotted = {"type": "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    dotted |= {"line": {"color": "@line", "width": 1}}
    layout["shapes"] = [dotted | {"x0": at, "x1": at} for at in starts if at]
    above = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"color": "@ink", "size": 12}}
    layout["annotations"] = [
        above | {"x": at + each.outcome.elapsed / 2, "text": _short(each)} for at, each in starts.items()
    ]
    layout["margin"]["t"] = 26


def _short(each: Series) -> str:
    load = each.outcome.phase.load
    return f"{load.concurrency:,}" if isinstance(load, ClosedLoop) else plain(each.load)
