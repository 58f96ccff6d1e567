"""The table of repeated loads: the mean of each figure and its confidence interval. Pure."""

from __future__ import annotations

from headrace.client.load.formatting import duration_text, number_text
from headrace.client.load.report.page.markup import sentence, swatch, text
from headrace.client.load.report.page.series import PageContent
from headrace.client.load.report.repetitions import Repetitions

FIGURES = {"throughput": "throughput, /s", "mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "p99_9": "p99.9"}


def repetition_table(content: PageContent) -> str:
    """A row for each load of each run, as HTML; empty without repetitions."""
    rows = [
        _row(content, at, repeated)
        for row in content.rows
        for at, repeated in enumerate(row.repetitions)
        if repeated is not None and len(repeated.outcomes) > 1
    ]
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{name}</th>' for name in FIGURES.values())
    head = f'<thead><tr><th scope="col"></th>{heads}</tr></thead>'
    return (
        '<section class="card"><p class="kicker">Repetitions</p><h2>Means, and where the true ones are</h2>'
        '<p class="beside">At a confidence of 95 %, by Student&#x2019;s t over the repetitions.</p>'
        f'<div class="scroll" tabindex="0"><table>{head}<tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _row(content: PageContent, at: int, repeated: Repetitions) -> str:
    first = next(each for each in content.series if each.run == at)
    several = len(content.runs) > 1
    name = f"{swatch(first.colour)} {text(first.name)}, " if several else ""
    cells = "".join(_cell(repeated, figure) for figure in FIGURES)
    return f'<tr><th scope="row">{name}{text(repeated.summary.load)}</th>{cells}</tr>'


def _cell(repeated: Repetitions, figure: str) -> str:
    found = repeated.interval(figure)
    if found is None:
        return "<td>-</td>"
    spoken = number_text if figure == "throughput" else duration_text
    return f"<td>{sentence(spoken(found.mean))}<small>± {sentence(spoken(found.half))}</small></td>"
