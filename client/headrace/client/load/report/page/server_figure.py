"""The plot of what the server said about itself during a run. Pure."""

from __future__ import annotations

from collections.abc import Callable

from headrace.client.load.formatting import bytes_text
from headrace.client.load.record.run import ServerLoad
from headrace.client.load.report.page.drawing import HOVER_NAME, Figure, Json, axis_of, heading, layout_of, line_of
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.page.time_figures import phases, time_axis

MEBIBYTE = 1 << 20


def server_load(content: PageContent) -> Figure | None:
    """Tickets and slots over time, and the memory of the server below them. None if no server said anything."""
    told = [each for each in content.timed if each.outcome.server_loads]
    if not told:
        return None
    data = [line for each in told for line in _lines(each)]
    layout = layout_of(
        time_axis(content) | {"anchor": "y2"},
        {"domain": [0.5, 1], "rangemode": "tozero", "tickformat": ",", "nticks": 5},
    )
    memory = {"domain": [0, 0.36], "rangemode": "tozero", "ticksuffix": " MiB", "tickformat": ",", "nticks": 4}
    layout["yaxis2"] = axis_of(memory)
    phases(content, layout)
    layout.setdefault("annotations", []).append(heading("Resident memory", 0.36))
    return Figure(data, layout, [("solid", "tickets in flight"), ("dash", "queued"), ("dot", "running, in slots")])


def _lines(each: Series) -> list[Json]:
    return [
        _line(each, "in flight", "solid", lambda load: load.tickets_in_flight),
        _line(each, "queued", "dash", lambda load: load.tickets_queued),
        _line(each, "running", "dot", lambda load: load.slots_running),
        _line(each, "resident", "solid", lambda load: load.resident_bytes / MEBIBYTE)
        | {
            "yaxis": "y2",
            "customdata": [bytes_text(load.resident_bytes) for load in each.outcome.server_loads],
            "hovertemplate": f"%{{customdata}} at %{{x:.4~g}} s{HOVER_NAME}",
        },
    ]


def _line(each: Series, name: str, dash: str, value: Callable[[ServerLoad], float]) -> Json:
    loads = each.outcome.server_loads
    line = line_of(each, [each.offset + load.moment for load in loads], [value(load) for load in loads], dash, 2.0)
    return line | {"hovertemplate": f"{name} at %{{x:.4~g}} s: %{{y:,}}{HOVER_NAME}"}
