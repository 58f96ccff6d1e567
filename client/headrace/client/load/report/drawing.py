"""What the plots of a page have in common: lines, axes, and how text and time look in them. Pure.

A figure is plain data, as plotly.js takes it, so that making one needs no plotly. A colour is `@name`: the style sheet
of the page says what it is. Durations are in milliseconds here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.client.load.report.series import Series

Json = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"
CLEAR = "rgba(0,0,0,0)"
EXTRA = "<extra>%{fullData.name}</extra>"
"""Whose point it is, in what is shown of it under the pointer."""
WIDE = 20.0
"""Times the least value: what spreads wider is on a log axis."""
FEW_DECADES = 2.6
"""On an axis of no more, 2 and 5 are written beside 1."""
FAINT = 0.45
"""Opacity of dotted lines."""
LONGEST = 30
"""Characters of a name in a plot, so that a phone has room for it."""


@dataclass(frozen=True, slots=True)
class Figure:
    data: list[Json]
    layout: Json
    key: list[tuple[str, str]]
    """What kinds of lines, marks and parts mean."""
    kind: str = ""
    """Of its size: `tall`, `flat`, `bars`."""

    def json(self) -> Json:
        return {"data": self.data, "layout": self.layout}


def line_of(each: Series, x: Sequence[float], y: Sequence[float | None], dash: str, width: float) -> Json:
    group, colour = f"s{each.colour}", f"@s{each.colour}"
    line = {"dash": dash, "width": width, "color": colour}
    shape: Json = {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "line": line}
    return shape | {"name": plain(each.label), "legendgroup": group, "opacity": FAINT if dash == "dot" else 1}


def layout_of(x: Json, y: Json) -> Json:
    return {
        "autosize": False,
        "font": {"family": FONT, "size": 12, "color": "@muted"},
        "margin": {"l": 70, "r": 16, "t": 10, "b": 50},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "@surface", "bordercolor": "@muted", "font": {"color": "@ink"}},
        "xaxis": axis_of(x | {"showgrid": y.get("visible") is False}),
        "yaxis": axis_of(y),
    }


def axis_of(axis: Json) -> Json:
    lines = {"gridcolor": "@grid", "linecolor": "@line", "zeroline": False, "tickcolor": CLEAR, "ticklen": 6}
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


def duration_axis(values: Iterable[float | None]) -> Json:
    """From 0, or on a log scale when the values are far apart."""
    known = [value for value in values if value]
    if not known or max(known) <= WIDE * min(known):
        top = max(known, default=1.0) * 1.08
        return {"range": [0, top], "ticksuffix": " ms", "tickformat": ",", "nticks": 6}
    low, high = math.log10(min(known)), math.log10(max(known))
    pad = (high - low) * 0.05
    steps = (1, 2, 5) if high - low <= FEW_DECADES else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps]
    texts = [f"{tick:,.10g} ms" for tick in ticks]
    return {"type": "log", "range": [low - pad, high + pad], "tickvals": ticks, "ticktext": texts}


def plain(text: str) -> str:
    """As plotly.js shows it, which takes text for a kind of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(label: str) -> str:
    """Without its middle, since names of runs and their phases differ at their ends."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST // 2]}…{label[-LONGEST // 2 + 1 :]}"


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 6)
