"""The histogram of latencies. Pure."""

from __future__ import annotations

from headrace.client.load.formatting import duration_text
from headrace.client.load.report.distribution import Bin, histogram
from headrace.client.load.report.page.drawing import (
    HOVER_NAME,
    Figure,
    Json,
    duration_axis,
    layout_of,
    limit_line,
    line_of,
    ms,
    title_of,
    visible_limits,
)
from headrace.client.load.report.page.series import PageContent, Series

FINE_DECADES = 1.3
"""Up to this length, the axis has labels at 2 and 5 as well."""
MAX_SERIES = 6
"""More outlines than this hide each other, so that only the best phases are drawn."""


def latency_histogram(content: PageContent) -> Figure | None:
    """An outline for each series: the share of its successes in each bin. None if nothing succeeded."""
    chosen = content.series if len(content.series) <= MAX_SERIES and not content.by_run else content.best_phases
    drawn = [(each, bins) for each in chosen if (bins := histogram(each.latencies))]
    if not drawn:
        return None
    edges = [ms(edge) for _, bins in drawn for edge in (bins[0].low, bins[-1].high)]
    x = duration_axis(edges, logarithmic=True, fine_decades=FINE_DECADES) | {"title": title_of("latency")}
    layout = layout_of(x, {"ticksuffix": " %", "rangemode": "tozero", "nticks": 6})
    inside = visible_limits(content.limits, layout["xaxis"])
    layout["shapes"] = [limit_line(seconds, upright=True) for seconds in inside]
    key = [("limit", f"the limit, {duration_text(seconds)}") for seconds in inside]
    return Figure([_outline(each, bins) for each, bins in drawn], layout, key)


def _outline(each: Series, bins: list[Bin]) -> Json:
    """Steps, which begin and end at the axis."""
    count = sum(each.requests for each in bins)
    x = [ms(edge) or 0.0 for each in bins for edge in (each.low, each.high)]
    shares = [100 * each.requests / count for each in bins for _ in range(2)]
    texts = [
        f"{duration_text(one.low)} to {duration_text(one.high)}: {one.requests:,}" for one in bins for _ in range(2)
    ]
    line = line_of(each, [x[0], *x, x[-1]], [0.0, *shares, 0.0], "solid", 1.6)
    line |= {"customdata": [texts[0], *texts, texts[-1]], "hovertemplate": f"%{{customdata}}{HOVER_NAME}"}
    return line
