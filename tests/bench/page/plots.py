"""A plot for each ratio: its median and spread in each run, what is demanded, and the server's time below."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.report.page.drawing import HOVER_NAME, Figure, Json, axis_of, heading, layout_of, plain
from tests.bench.history.entry import Entry
from tests.bench.page.runs import Shown, label, points, server_times

MAX_TICKS = 4
ROOM = 1.12
"""How far an axis goes beyond what is drawn."""
KEY = [("dash", "must"), ("dot", "aim")]


def ratio_plot(shown: Shown, name: str) -> Figure:
    """Of the runs that have it."""
    runs = shown.having(name)
    data: list[Json] = []
    for colour, way in enumerate(shown.ways):
        if ratios := points(runs, name, way):
            data.append(_ratio_line(runs, ratios, way, colour))
        if times := server_times(runs, name, way):
            data.append(_time_line(runs, times, way, colour))
    timed = any(line.get("yaxis") == "y2" for line in data)
    newest = next(each for each in runs[-1]["ratios"] if each["name"] == name)
    layout = layout_of(_run_axis(runs, timed=timed), _value_axis(data, "y", newest, low=0.46 if timed else 0.0))
    layout["shapes"] = [
        _limit(newest[bound], dash) for bound, dash in (("must", "dash"), ("aim", "dot")) if newest[bound] is not None
    ]
    if timed:
        below = {"domain": [0, 0.3], "rangemode": "tozero", "ticksuffix": " us", "tickformat": ",", "nticks": 3}
        layout["yaxis2"] = axis_of(below | {"range": [0, _highest(data, "y2") * ROOM]})
        layout["annotations"] = [heading("Server's processor time for a request", 0.3)]
    return Figure(data, layout, KEY if layout["shapes"] else [], "")


def _ratio_line(runs: Sequence[Entry], ratios: list[tuple[int, Entry]], way: str, colour: int) -> Json:
    medians = [each["median"] for _, each in ratios]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [each["high"] - each["median"] for _, each in ratios],
        "arrayminus": [each["median"] - each["low"] for _, each in ratios],
        "color": f"@s{colour}",
        "thickness": 1.2,
        "width": 3,
    }
    texts = [
        f"{each['median']:.3g} ({each['low']:.3g} to {each['high']:.3g}), {label(runs[at])}, {_noise(runs, at)}"
        for at, each in ratios
    ]
    return _line(runs, [at for at, _ in ratios], medians, way, colour) | {
        "error_y": error,
        "text": [*map(plain, texts)],
    }


def _time_line(runs: Sequence[Entry], times: list[tuple[int, float]], way: str, colour: int) -> Json:
    texts = [f"{time:,.4g} us, {label(runs[at])}" for at, time in times]
    line = _line(runs, [at for at, _ in times], [time for _, time in times], way, colour)
    return line | {"yaxis": "y2", "text": [*map(plain, texts)]}


def _line(runs: Sequence[Entry], x: list[int], y: list[float], way: str, colour: int) -> Json:
    symbols = ["circle" if runs[at]["noise"]["quiet"] else "circle-open" for at in x]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "name": plain(way),
        "legendgroup": f"s{colour}",
        "line": {"color": f"@s{colour}", "width": 1.5},
        "marker": {"color": f"@s{colour}", "size": 8, "symbol": symbols, "line": {"width": 1.5}},
        "hovertemplate": f"%{{text}}{HOVER_NAME}",
    }


def _run_axis(runs: Sequence[Entry], *, timed: bool) -> Json:
    last = len(runs) - 1
    step = max(1, -(-last // (MAX_TICKS - 1)))
    ticks = [*range(last % step, last + 1, step)]
    texts = ["<br>".join(map(plain, label(runs[at]).split(", "))) for at in ticks]
    return {"tickvals": ticks, "ticktext": texts, "range": [-0.5, last + 0.5]} | ({"anchor": "y2"} if timed else {})


def _value_axis(data: list[Json], axis: str, newest: Entry, low: float) -> Json:
    bounds = [bound for bound in (newest["must"], newest["aim"]) if bound is not None]
    return {"domain": [low, 1], "range": [0, max([_highest(data, axis), *bounds]) * ROOM], "nticks": 5}


def _highest(data: list[Json], axis: str) -> float:
    """The highest value on an axis, with its spread."""
    highest = 0.0
    for line in data:
        if line.get("yaxis", "y") == axis:
            above = line.get("error_y", {}).get("array") or [0.0] * len(line["y"])
            highest = max(highest, *(value + more for value, more in zip(line["y"], above, strict=True)))
    return highest


def _limit(value: float, dash: str) -> Json:
    line = {"color": "@muted", "width": 1.5, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _noise(runs: Sequence[Entry], at: int) -> str:
    return f"{runs[at]['noise']['verdict']} machine"
