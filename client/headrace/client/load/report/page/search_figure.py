"""The plot of a search: the figure of its condition over the rate, with the limit. Pure."""

from __future__ import annotations

import math

from headrace.client.load.formatting import duration_text, rate_text
from headrace.client.load.report.page.drawing import (
    Figure,
    Json,
    duration_axis,
    layout_of,
    limit_line,
    ms,
    plain,
    rate_axis,
)
from headrace.client.load.report.page.series import PageContent
from headrace.client.load.report.rate_search import Judged

BEYOND = 1.6
"""A figure without a value is drawn this many times above the highest one."""


def search(content: PageContent) -> Figure | None:
    """A mark for each trial, and a line through the middle ones. None if the run was no search."""
    found = content.found
    if found is None or not found.judged:
        return None
    finite = [each.value for each in found.judged if math.isfinite(each.value)]
    limit = found.condition.seconds or 0.0
    top = BEYOND * max([*finite, limit])
    line: Json = {
        "type": "scatter",
        "mode": "lines",
        "x": [each.rate for each in found.tried],
        "y": [ms(each.value) if math.isfinite(each.value) else None for each in found.tried],
        "line": {"color": "@accent", "width": 2.0},
        "hoverinfo": "skip",
        "name": "",
    }
    held, failed = (
        _marks([each for each in found.judged if each.trial.holds is holds], top, holds) for holds in (True, False)
    )
    layout = layout_of(
        rate_axis(each.rate for each in found.tried),
        duration_axis([ms(value) for value in (*finite, limit, top)]),
    )
    layout["shapes"] = [limit_line(limit)]
    if found.bounds.holds is not None:
        _mark_found(found.bounds.holds, layout)
    key = [("held", "a trial that holds"), ("cross", "one that fails"), ("limit", f"the limit, {duration_text(limit)}")]
    return Figure([line, held, failed], layout, key)


def _marks(judged: list[Judged], top: float, holds: bool) -> Json:
    texts = [
        f"{rate_text(each.trial.rate)}: {each.reason or duration_text(each.value)}"
        + ("" if holds or not math.isfinite(each.value) else f" ({duration_text(each.value)})")
        for each in judged
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [each.trial.rate for each in judged],
        "y": [ms(min(each.value, top)) for each in judged],
        "text": [plain(text) for text in texts],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle" if holds else "x", "size": 9, "color": "@good" if holds else "@bad"},
        "cliponaxis": False,
        "name": "",
    }


def _mark_found(rate: float, layout: Json) -> None:
    """A line at the rate that was found, with the rate above it."""
    dotted = {"color": "@muted", "width": 1, "dash": "dot"}
    place = {"xref": "x", "yref": "paper"}
    layout["shapes"].append(place | {"type": "line", "x0": rate, "x1": rate, "y0": 0, "y1": 1, "line": dotted})
    text = {"text": rate_text(rate), "showarrow": False, "font": {"color": "@ink", "size": 13}}
    # Unlike shapes, annotations take the logarithm.
    layout["annotations"] = [place | text | {"x": math.log10(rate), "y": 1, "yanchor": "bottom"}]
    layout["margin"]["t"] = 26
