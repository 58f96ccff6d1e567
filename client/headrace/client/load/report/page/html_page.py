"""Renders runs as an HTML page: one file that fetches nothing, including plotly.js, which it takes from plotly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import NamedTuple

from headrace.client.load.record.run import Run, RunSettings
from headrace.client.load.report.comparability import unlike
from headrace.client.load.report.conditions import Condition
from headrace.client.load.report.page import figures, findings, histogram, search_figure, server_figure, time_figures
from headrace.client.load.report.page.cards import cards, objective_list
from headrace.client.load.report.page.drawing import Figure
from headrace.client.load.report.page.figure_table import table
from headrace.client.load.report.page.markup import data, sentence, swatch, text
from headrace.client.load.report.page.repetition_table import repetition_table
from headrace.client.load.report.page.series import PageContent, page_content
from headrace.client.terminal.usage_error import UsageError

PLOTLY_MISSING = "the HTML report needs plotly, which is not installed: pip install 'headrace[report]'"
# Whatever a page contains, the browser fetches nothing and sends nothing.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
FOOTER = "Created by headrace report. This file is self-contained: it loads nothing from elsewhere."
DASHES = {"solid": "none", "dash": "7 4", "dot": "2 3", "limit": "7 3 2 3"}


class Plot(NamedTuple):
    name: str
    figure: Callable[[PageContent], Figure | None]
    finding: Callable[[PageContent], str]
    caption: str


PLOTS = (
    Plot(
        "Highest rate that holds",
        search_figure.search,
        findings.search,
        "Each mark is a trial. Requests that failed or were never sent count as infinitely slow. A single trial "
        "decides only if it holds with room to spare; otherwise, two of three do.",
    ),
    Plot(
        "Latency percentiles",
        figures.percentiles,
        findings.percentiles,
        "Each step to the right is ten times rarer. Requests without an answer count as at least their wait.",
    ),
    Plot(
        "Latency histogram",
        histogram.latency_histogram,
        findings.latency_histogram,
        "Requests that succeeded, in bins of equal width on this logarithmic axis.",
    ),
    Plot(
        "Latency over time",
        time_figures.latency,
        findings.latency,
        "Each point covers the requests that were due in a short interval of the run. The warm-up is left out.",
    ),
    Plot(
        "Throughput against concurrency",
        figures.sweep,
        findings.sweep,
        "More requests in flight raise throughput until the server is busy; beyond that, they only wait longer.",
    ),
    Plot(
        "Rate and throughput over time",
        time_figures.rates,
        findings.rates,
        "The rate is what was planned and what was sent; throughput is what was answered successfully.",
    ),
    Plot(
        "The server",
        server_figure.server_load,
        findings.server_load,
        "What the server reports once a second, of all its clients together; queued and running are of this model.",
    ),
    Plot(
        "Where the time went",
        figures.time_breakdown,
        findings.time_breakdown,
        "Means of the requests that succeeded. Waiting and client: due, but not sent yet. Network: both ways, with the "
        "handling of messages at both ends. Queue and inference: as the server reports them.",
    ),
)


def render_page(runs: Sequence[Run], objectives: Sequence[Condition] = ()) -> str:
    """The page of at least one run, with the objectives of `--sla`. Raises UsageError if plotly is not installed."""
    library = _plotly()
    content = page_content(runs, objectives)
    drawn = [(plot, figure) for plot in PLOTS if (figure := plot.figure(content))]
    drawings = {f"plot-{at}": figure.json() for at, (_, figure) in enumerate(drawn)}
    plots = (_plot(f"plot-{at}", plot, figure, content) for at, (plot, figure) in enumerate(drawn))
    body = [
        _header(content),
        _warnings(content),
        cards(content),
        objective_list(content),
        _legend(content),
        *plots,
        repetition_table(content),
        table(content),
        _settings(content),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(_model(content))}: Headrace load report</title>
<style>
{_file("page.css")}{_colours(content)}</style>
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
    # Optional, and slow to import.
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UsageError(PLOTLY_MISSING) from None
    library: str = get_plotlyjs()
    return library


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _colours(content: PageContent) -> str:
    light = "".join(f"--s{at}:{colour.light};" for at, colour in enumerate(content.colours))
    dark = "".join(f"--s{at}:{colour.dark};" for at, colour in enumerate(content.colours))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _header(content: PageContent) -> str:
    facts = {
        "Target": _distinct(run.settings.target for run in content.runs),
        "Protocol": _distinct(f"{run.settings.protocol}, {run.settings.mode}" for run in content.runs),
        "Load": _distinct(_loads(content, at) for at in range(len(content.runs))),
        "Started": _distinct(_moment(run.settings.started) for run in content.runs),
        "Client": _distinct(f"headrace {run.settings.client}" for run in content.runs),
        "Server": _distinct(run.settings.server for run in content.runs),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items() if value)
    kind = "Load test" if len(content.runs) == 1 else f"{len(content.runs)} load tests side by side"
    return (
        f'<header><p class="kicker">{kind}</p><h1>{text(_model(content))}</h1>'
        f'<p class="finding">{sentence(findings.headline(content))}</p><dl class="facts">{listed}</dl></header>'
    )


def _model(content: PageContent) -> str:
    return _distinct(
        f"{run.settings.model} version {run.settings.version}".removesuffix(" version ") for run in content.runs
    )


def _loads(content: PageContent, run: int) -> str:
    loads = [each.load for each in content.whole if each.run == run]
    return ", ".join(loads) if len(loads) < 3 else f"{loads[0]} to {loads[-1]}, {len(loads)} phases"


def _moment(started: str) -> str:
    """An ISO 8601 time in a more readable form; any other text is unchanged."""
    date, _, time = started.partition("T")
    return f"{date} {time[:5]} UTC" if time.endswith(("Z", "+00:00")) else started


def _distinct(values: Iterable[str]) -> str:
    """The distinct values, so that what runs have in common appears once."""
    return " | ".join(dict.fromkeys(values))


def _warnings(content: PageContent) -> str:
    """Each warning once, with all series it applies to."""
    labels_by_warning: dict[str, list[str]] = {}
    for each in content.series_to_warn_about:
        for warning in each.summary.warnings:
            labels_by_warning.setdefault(warning, []).append(each.label)
    boxes = [f'<p class="warning"><span>{sentence(warning)}.</span></p>' for warning in _unlike(content)]
    for warning, labels in labels_by_warning.items():
        whose = f"<b>{text(', '.join(labels))}</b>: " if len(content.series) > 1 else ""
        message = warning if whose else warning[:1].upper() + warning[1:]
        boxes.append(f'<p class="warning"><span>{whose}{sentence(message)}.</span></p>')
    return f'<section class="warnings" aria-label="Warnings">{"".join(boxes)}</section>' if boxes else ""


def _unlike(content: PageContent) -> Iterator[str]:
    """What makes comparing a run with the first say something else as well."""
    names = [next((each.name for each in content.series if each.run == at), "") for at in range(len(content.runs))]
    for name, run in zip(names[1:], content.runs[1:], strict=True):
        if found := unlike(content.runs[0], run):
            yield f"{name} was not measured like {names[0]}: {'; '.join(found)}"


def _legend(content: PageContent) -> str:
    """The names of the colours, as buttons that hide a series."""
    if len(content.groups) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" class="series" aria-pressed="true" data-series="s{colour}">{swatch(colour)}'
        f"<span>{text(label)}</span></button>"
        for colour, label in enumerate(content.groups)
    )
    return f'<div class="legend" role="group" aria-label="Show or hide">{buttons}</div>'


def _plot(place: str, plot: Plot, figure: Figure, content: PageContent) -> str:
    key = "".join(f"<li>{_mark(kind)}{name}</li>" for kind, name in figure.key)
    keys = f'<ul class="key">{key}</ul>' if key else ""
    rows = f' style="--rows:{len(content.series)}"' if figure.kind == "bars" else ""
    return (
        f'<figure class="card plot"><p class="kicker">{plot.name}</p><h2>{sentence(plot.finding(content))}</h2>{keys}'
        f'<div class="drawing {figure.kind}" id="{place}"{rows}></div><figcaption>{plot.caption}</figcaption></figure>'
    )


def _mark(kind: str) -> str:
    if kind in figures.PARTS:
        return f'<i class="swatch" style="--colour:var(--{kind})"></i>'
    if kind == "held":
        return '<svg class="held" width="10" height="10"><circle cx="5" cy="5" r="4"/></svg>'
    if kind == "limit":
        return f'<svg class="cross" width="30" height="10"><path d="M0 5h30" stroke-dasharray="{DASHES[kind]}"/></svg>'
    if kind == "cross":
        return '<svg class="cross" width="10" height="10"><path d="M1 1l8 8M9 1l-8 8"/></svg>'
    return f'<svg width="30" height="10"><path d="M0 5h30" stroke-dasharray="{DASHES[kind]}"/></svg>'


def _settings(content: PageContent) -> str:
    lists = []
    for at, run in enumerate(content.runs):
        name = next((each.name for each in content.series if each.run == at), "")
        head = f"<h3>{text(name)}</h3>" if len(content.runs) > 1 else ""
        pairs = (
            {"file": run.name}
            | _settings_list(run.settings)
            | {"loads": ", ".join(each.load for each in content.series if each.run == at)}
        )
        listed = "".join(f"<dt>{name}</dt><dd>{text(value)}</dd>" for name, value in pairs.items() if value)
        lists.append(f'<dl class="settings">{head}{listed}</dl>')
    return f'<details class="card"><summary>Settings</summary><div>{"".join(lists)}</div></details>'


def _settings_list(settings: RunSettings) -> dict[str, str]:
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
