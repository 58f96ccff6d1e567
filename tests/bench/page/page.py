"""Renders the history as one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from headrace.client.load.formatting import counted
from headrace.client.load.report.page.drawing import Figure
from headrace.client.load.report.page.html_page import DASHES, POLICY
from headrace.client.load.report.page.markup import data, swatch, text
from headrace.client.load.report.page.series import DISTINCT_COLOURS
from tests.bench.history.entry import Entry
from tests.bench.page.plots import ratio_plot
from tests.bench.page.runs import Shown, judged, label, shown

STYLE = "headrace.client.load.report.page"
"""The package with the style sheet and the script of load tests' pages."""


def render_page(history: Sequence[Entry]) -> str:
    """The page of at least one run."""
    runs = shown(history)
    plots = {name: ratio_plot(runs, name) for name in runs.ratios}
    places = {f"plot-{at}": figure.json() for at, figure in enumerate(plots.values())}
    cards = [_card(f"plot-{at}", runs.ratios[name], plots[name]) for at, name in enumerate(plots)]
    body = [_header(runs), _warnings(runs), _table(runs), _legend(runs), f'<div class="plots">{"".join(cards)}</div>']
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Headrace beside its limits</title>
<style>
{_style("page.css")}{Path(__file__).with_name("bench.css").read_text("utf-8")}{_colours(runs)}</style>
</head>
<body>
<main>
{"".join(body)}
<footer>Created by make bench. This file is self-contained: it loads nothing from elsewhere.</footer>
</main>
<script type="application/json" id="figures">{data(places)}</script>
<script>{get_plotlyjs()}</script>
<script>
{_style("page.js")}</script>
</body>
</html>
"""


def _style(name: str) -> str:
    return resources.files(STYLE).joinpath(name).read_text("utf-8")


def _colours(runs: Shown) -> str:
    colours = [DISTINCT_COLOURS[at % len(DISTINCT_COLOURS)] for at in range(len(runs.ways))]
    light = "".join(f"--s{at}:{colour.light};" for at, colour in enumerate(colours))
    dark = "".join(f"--s{at}:{colour.dark};" for at, colour in enumerate(colours))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _header(runs: Shown) -> str:
    newest = runs.newest
    ratios = judged(newest)
    reached = sum(each["verdict"] != "missed" for each in ratios)
    aims = sum(each["verdict"] == "aim reached" for each in ratios)
    machine, versions = newest["machine"], newest["versions"]
    facts = {
        "Newest run": label(newest),
        "Machine": f"{counted(machine['cores'], 'core')} of {machine['processor']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Echo": f"{newest['echo']['mode']} ({newest['echo']['fast_turns']} of {newest['echo']['turns']} turns fast)",
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    finding = f"{reached} of {counted(len(ratios), 'ratio')} reached what they must, {aims} of them the aim"
    return (
        f'<header><p class="kicker">{counted(len(runs.runs), "run")} on this machine</p><h1>Headrace beside its limits'
        f'</h1><p class="finding">{finding}</p><dl class="facts">{listed}</dl></header>'
    )


def _warnings(runs: Shown) -> str:
    noise, boxes = runs.newest["noise"], []
    if not noise["quiet"]:
        took = f"{noise['median']:.2f} of its quickest in the median, and {noise['high']:.2f} in the slowest tenth"
        boxes.append(
            f"The machine was noisy in the newest run, so its verdicts are uncertain: a fixed loop took {took}. "
            "Runs on a noisy machine have open circles."
        )
    if runs.elsewhere:
        boxes.append(
            f"{counted(runs.elsewhere, 'run')} on other machines left out, as their figures cannot be compared."
        )
    inside = "".join(f'<p class="warning"><span>{text(box)}</span></p>' for box in boxes)
    return f'<section class="warnings" aria-label="Warnings">{inside}</section>' if boxes else ""


def _table(runs: Shown) -> str:
    rows = "".join(_row(each, quiet=runs.newest["noise"]["quiet"]) for each in judged(runs.newest))
    heads = "".join(f"<th>{name}</th>" for name in ("", "lowest", "median", "highest", "must", "aim", "verdict"))
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<section class="card"><p class="kicker">The newest run</p><div class="scroll">{table}</div></section>'


def _row(ratio: dict[str, Any], *, quiet: bool) -> str:
    figures = "".join(f"<td>{ratio[name]:.3g}</td>" for name in ("low", "median", "high"))
    sign = "≤" if ratio["less"] else "≥"
    bounds = "".join(
        f"<td>{'' if bound is None else f'{sign} {bound:g}'}</td>" for bound in (ratio["must"], ratio["aim"])
    )
    kind = "missed" if ratio["verdict"] == "missed" else "reached"
    verdict = f'<b class="{kind}">{text(ratio["verdict"])}{"" if quiet else "?"}</b>' + "".join(
        f", {note}" for note in ratio["notes"]
    )
    return f'<tr><th>{text(ratio["title"])}</th>{figures}{bounds}<td class="verdict">{verdict}</td></tr>'


def _legend(runs: Shown) -> str:
    """The ways, as buttons that hide one."""
    if len(runs.ways) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" class="series" aria-pressed="true" data-series="s{at}">{swatch(at)}'
        f"<span>{text(way)}</span></button>"
        for at, way in enumerate(runs.ways)
    )
    return f'<div class="legend" role="group" aria-label="Show or hide">{buttons}</div>'


def _card(place: str, title: str, figure: Figure) -> str:
    marks = "".join(
        f'<li><svg width="30" height="10"><path d="M0 5h30" stroke-dasharray="{DASHES[kind]}"/></svg>{name}</li>'
        for kind, name in figure.key
    )
    key = f'<ul class="key">{marks}</ul>' if marks else ""
    return f'<figure class="card plot"><h2>{text(title)}</h2>{key}<div class="drawing" id="{place}"></div></figure>'
