"""Runs as a page for a browser: one file that fetches nothing. Pure, but for plotly.js, which comes with plotly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import NamedTuple

from headrace.client.load.report import figures, findings, time_figures
from headrace.client.load.report.cards import cards
from headrace.client.load.report.drawing import Figure
from headrace.client.load.report.figure_table import table
from headrace.client.load.report.markup import data, sentence, swatch, text
from headrace.client.load.report.series import Shown, shown
from headrace.client.load.run import Run, Settings
from headrace.client.terminal.usage_error import UsageError

MISSING = "the HTML report needs plotly, which is not installed: pip install 'headrace[report]'"
# Whatever a page holds, its browser fetches nothing and sends nothing.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
FOOTER = "Made by headrace report. This file is complete: it loads nothing from elsewhere."
DASHES = {"solid": "none", "dash": "7 4", "dot": "2 3"}


class Plot(NamedTuple):
    name: str
    figure: Callable[[Shown], Figure | None]
    finding: Callable[[Shown], str]
    caption: str


PLOTS = (
    Plot(
        "Latency percentiles",
        figures.percentiles,
        findings.percentiles,
        "Of the requests that succeeded. Each step to the right is ten times rarer.",
    ),
    Plot(
        "Latency over time",
        time_figures.latency,
        findings.latency,
        "Each point stands for the requests that were due in a stretch of the run. Warm-up is left out.",
    ),
    Plot(
        "Throughput against concurrency",
        figures.sweep,
        findings.sweep,
        "More requests in flight help until the server is busy; beyond that they only wait longer.",
    ),
    Plot(
        "Rate and throughput over time",
        time_figures.rates,
        findings.rates,
        "The rate is what was planned and what was sent; throughput is what was answered with success.",
    ),
    Plot(
        "Where the time went",
        figures.where,
        findings.where,
        "Means of the requests that succeeded. Client: due, but not sent yet. Network: there and back, and what both "
        "ends do with a message. Queue and inference: as the server tells.",
    ),
)


def html(runs: Sequence[Run]) -> str:
    """Of at least one run. Raises UsageError when plotly is not installed."""
    library = _plotly()
    what = shown(runs)
    drawn = [(plot, figure) for plot in PLOTS if (figure := plot.figure(what))]
    drawings = {f"plot-{at}": figure.json() for at, (_, figure) in enumerate(drawn)}
    plots = (_plot(f"plot-{at}", plot, figure, what) for at, (plot, figure) in enumerate(drawn))
    body = [_header(what), _warnings(what), cards(what), _legend(what), *plots, table(what), _settings(what)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(_model(what))}: Headrace load report</title>
<style>
{_file("page.css")}{_colours(what)}</style>
</head>
<body>
<main>
{"".join(body)}
<footer>{FOOTER}</footer>
</main>
<script type="application/json" id="figures">{data(drawings)}</script>
<script>{library}</script>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def _plotly() -> str:
    # Only who wants a page needs it, and it takes long to import.
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UsageError(MISSING) from None
    library: str = get_plotlyjs()
    return library


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _colours(what: Shown) -> str:
    light = "".join(f"--s{at}:{colour.light};" for at, colour in enumerate(what.colours))
    dark = "".join(f"--s{at}:{colour.dark};" for at, colour in enumerate(what.colours))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _header(what: Shown) -> str:
    facts = {
        "Target": _once(run.settings.target for run in what.runs),
        "Protocol": _once(f"{run.settings.protocol}, {run.settings.mode}" for run in what.runs),
        "Load": _once(_loads(what, at) for at in range(len(what.runs))),
        "Started": _once(_moment(run.settings.started) for run in what.runs),
        "Client": _once(f"headrace {run.settings.client}" for run in what.runs),
        "Server": _once(run.settings.server for run in what.runs),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items() if value)
    kind = "Load test" if len(what.runs) == 1 else f"{len(what.runs)} load tests side by side"
    return (
        f'<header><p class="kicker">{kind}</p><h1>{text(_model(what))}</h1>'
        f'<p class="finding">{sentence(findings.whole(what))}</p><dl class="facts">{listed}</dl></header>'
    )


def _model(what: Shown) -> str:
    return _once(f"{run.settings.model} version {run.settings.version}".removesuffix(" version ") for run in what.runs)


def _loads(what: Shown, run: int) -> str:
    loads = [each.load for each in what.series if each.run == run]
    return ", ".join(loads) if len(loads) < 3 else f"{loads[0]} to {loads[-1]}, {len(loads)} phases"


def _moment(started: str) -> str:
    """ISO 8601 for people; what is not that stays as it is."""
    date, _, time = started.partition("T")
    return f"{date} {time[:5]} UTC" if time.endswith(("Z", "+00:00")) else started


def _once(values: Iterable[str]) -> str:
    """What the runs share is said once."""
    return " | ".join(dict.fromkeys(values))


def _warnings(what: Shown) -> str:
    """Each once, with all that it is said of."""
    told: dict[str, list[str]] = {}
    for each in what.series:
        for warning in each.summary.warnings:
            told.setdefault(warning, []).append(each.label)
    if not told:
        return ""
    boxes = []
    for warning, labels in told.items():
        whose = f"<b>{text(', '.join(labels))}</b>: " if len(what.series) > 1 else ""
        told_as = warning if whose else warning[:1].upper() + warning[1:]
        boxes.append(f'<p class="warning"><span>{whose}{sentence(told_as)}.</span></p>')
    return f'<section class="warnings" aria-label="Warnings">{"".join(boxes)}</section>'


def _legend(what: Shown) -> str:
    """What the colours are. A press hides one."""
    if len(what.groups) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" class="series" aria-pressed="true" data-series="s{colour}">{swatch(colour)}'
        f"<span>{text(label)}</span></button>"
        for colour, label in enumerate(what.groups)
    )
    return f'<div class="legend" role="group" aria-label="Show or hide">{buttons}</div>'


def _plot(place: str, plot: Plot, figure: Figure, what: Shown) -> str:
    key = "".join(f"<li>{_mark(kind)}{name}</li>" for kind, name in figure.key)
    keys = f'<ul class="key">{key}</ul>' if key else ""
    rows = f' style="--rows:{len(what.series)}"' if figure.kind == "bars" else ""
    return (
        f'<figure class="card plot"><p class="kicker">{plot.name}</p><h2>{sentence(plot.finding(what))}</h2>{keys}'
        f'<div class="drawing {figure.kind}" id="{place}"{rows}></div><figcaption>{plot.caption}</figcaption></figure>'
    )


def _mark(kind: str) -> str:
    if kind in figures.PARTS:
        return f'<i class="swatch" style="--colour:var(--{kind})"></i>'
    if kind == "cross":
        return '<svg class="cross" width="10" height="10"><path d="M1 1l8 8M9 1l-8 8"/></svg>'
    return f'<svg width="30" height="10"><path d="M0 5h30" stroke-dasharray="{DASHES[kind]}"/></svg>'


def _settings(what: Shown) -> str:
    lists = []
    for at, run in enumerate(what.runs):
        name = next((each.name for each in what.series if each.run == at), "")
        head = f"<h3>{text(name)}</h3>" if len(what.runs) > 1 else ""
        pairs = (
            {"file": run.name}
            | _asked(run.settings)
            | {"loads": ", ".join(each.load for each in what.series if each.run == at)}
        )
        listed = "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in pairs.items() if value)
        lists.append(f'<dl class="settings">{head}{listed}</dl>')
    return f'<details class="card"><summary>Settings</summary><div>{"".join(lists)}</div></details>'


def _asked(settings: Settings) -> dict[str, str]:
    return {
        "target": settings.target,
        "model": settings.model,
        "version": settings.version or "the server's choice",
        "protocol": f"{settings.protocol}, {settings.mode}",
        "streams": f"{settings.streams} with a window of {settings.window}",
        "processes": str(settings.processes),
        "inputs": "; ".join(settings.inputs),
        "outputs": "all" if settings.outputs is None else ", ".join(settings.outputs) or "none",
        "keep": ", ".join(settings.keep) or "none",
        "timeout": "none" if settings.timeout is None else f"{settings.timeout:g} s",
        "priority": str(settings.priority),
        "seed": str(settings.seed),
        "started": settings.started,
        "client": f"headrace {settings.client} on {settings.cpus} CPUs",
        "server": settings.server,
    }
