"""What the plots of a page have in common: lines, axes, and the look of text and times. Pure.

A figure is plain data in the format of plotly.js, so that building one does not require plotly. Colours are written as
`@name` and defined in the page's style sheet. Durations here are in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.client.load.report.page.series import Series

Json = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
TRANSPARENT = "rgba(0,0,0,0)"
HOVER_NAME = "<extra>%{fullData.name}</extra>"
"""Adds the name of the line to what is shown when the pointer is over a point."""
LOG_SCALE_RATIO = 20.0
"""If the largest value is over this many times the smallest, the axis is logarithmic."""
MAX_FINE_DECADES = 2.6
"""A logarithmic axis up to this length has labels at 2 and 5 as well as at 1."""
MAX_TICKS = 6
MAX_FINE_RATE_DECADES = 1.5
DOTTED_OPACITY = 0.45
MAX_LABEL_CHARACTERS = 30
"""Short enough for a phone."""


@dataclass(frozen=True, slots=True)
class Figure:
    data: list[Json]
    layout: Json
    key: list[tuple[str, str]]
    """What each kind of line, mark or bar means."""
    kind: str = ""
    """Its size: `tall`, `flat` or `bars`."""

    def json(self) -> Json:
        return {"data": self.data, "layout": self.layout}


def line_of(each: Series, x: Sequence[float], y: Sequence[float | None], dash: str, width: float) -> Json:
    group, colour = f"s{each.colour}", f"@s{each.colour}"
    line = {"dash": dash, "width": width, "color": colour}
    shape: Json = {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "line": line}
    return shape | {"name": plain(each.label), "legendgroup": group, "opacity": DOTTED_OPACITY if dash == "dot" else 1}


def layout_of(x: Json, y: Json) -> Json:
    return {
        "autosize": False,
        "font": {"family": FONT, "size": 12, "color": "@muted"},
        "margin": {"l": 70, "r": 16, "t": 10, "b": 50},
        "paper_bgcolor": TRANSPARENT,
        "plot_bgcolor": TRANSPARENT,
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "@surface", "bordercolor": "@muted", "font": {"color": "@ink"}},
        "xaxis": axis_of(x | {"showgrid": y.get("visible") is False}),
        "yaxis": axis_of(y),
    }


def axis_of(axis: Json) -> Json:
    lines = {"gridcolor": "@grid", "linecolor": "@line", "zeroline": False, "tickcolor": TRANSPARENT, "ticklen": 6}
    return {"automargin": False, "ticks": "outside", **lines, **axis}


def title_of(text: str) -> Json:
    return {"text": text, "standoff": 8}


def heading(text: str, y: float) -> Json:
    place = {
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "xshift": -64,
        "yshift": 8,
    }
    return place | {"text": text, "showarrow": False, "font": {"color": "@ink", "size": 13}}


def duration_axis(
    values: Iterable[float | None], *, logarithmic: bool = False, fine_decades: float = MAX_FINE_DECADES
) -> Json:
    """An axis from 0, or a logarithmic one if the values are far apart."""
    known = [value for value in values if value]
    if not known or (max(known) <= LOG_SCALE_RATIO * min(known) and not logarithmic):
        return linear_duration_axis(max(known, default=1.0) * 1.08)
    low, high = math.log10(min(known)), math.log10(max(known))
    pad = (high - low) * 0.05
    steps = (1, 2, 5) if high - low <= fine_decades else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    return {"type": "log", "range": [low - pad, high + pad], "tickvals": ticks, "ticktext": [*map(_tick, ticks)]}


def linear_duration_axis(top: float) -> Json:
    """From 0 to so many milliseconds."""
    if top < 1e3:
        return {"range": [0, top], "ticksuffix": " ms", "tickformat": ",", "nticks": 6}
    ticks = round_steps(top, MAX_TICKS)
    return {"range": [0, top], "tickvals": ticks, "ticktext": [*map(_tick, ticks)]}


def rate_axis(rates: Iterable[float]) -> Json:
    """A logarithmic axis of requests per second."""
    known = list(rates)
    low, high = math.log10(min(known)), math.log10(max(known))
    pad = max(0.04, (high - low) * 0.05)
    steps = (1, 2, 5) if high - low <= MAX_FINE_RATE_DECADES else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    texts = [f"{tick:,.10g}/s" for tick in ticks]
    shown = {"tickvals": ticks, "ticktext": texts, "title": title_of("planned rate")}
    return {"type": "log", "range": [low - pad, high + pad], **shown}


def round_steps(top: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from 0 up to `top`: at most so many, besides 0."""
    decade = 10.0 ** math.floor(math.log10(top / most))
    step = next(step * decade for step in (1, 2, 5, 10, 20) if top / (step * decade) <= most)
    return [at * step for at in range(math.floor(top / step) + 1)]


def visible_limits(limits: Iterable[float], axis: Json) -> list[float]:
    """Those of the limits, in seconds, that are on this axis of durations."""
    low, high = axis["range"] if axis.get("type") != "log" else (10**end for end in axis["range"])
    return [seconds for seconds in limits if low <= seconds * 1e3 <= high]


def limit_line(seconds: float, *, upright: bool = False) -> Json:
    """A line at a latency that an objective allows, across the plot."""
    value = ms(seconds)
    along, across = ("y", "x") if upright else ("x", "y")
    place: Json = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}ref": across}
    line = {"color": "@bad", "width": 1.5, "dash": "dashdot"}
    return {"type": "line", "layer": "below", "line": line, f"{across}0": value, f"{across}1": value} | place


def _tick(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:,.10g} s" if milliseconds >= 1e3 else f"{milliseconds:,.10g} ms"


def plain(text: str) -> str:
    """Text escaped for plotly.js, which interprets text as a kind of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(label: str) -> str:
    """A label cut in the middle, since names of runs and phases differ at their ends."""
    return (
        label
        if len(label) <= MAX_LABEL_CHARACTERS
        else f"{label[: MAX_LABEL_CHARACTERS // 2]}…{label[-MAX_LABEL_CHARACTERS // 2 + 1 :]}"
    )


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 6)
