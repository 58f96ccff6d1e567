"""The table of a search for the highest rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from headrace.client.load.formatting import ms_text, number_text
from headrace.client.load.report.rate_search import FoundRate, TriedRate
from headrace.client.load.report.text.tables import BAD, GOOD, percentile_text, table_of

BASIC_FIGURES = ("p50", "p99")


def search_table(found: FoundRate) -> Table:
    """A row for each rate, in ascending order, with the figures of the middle one of its trials."""
    figures = (f"{name.upper()}\nms" for name in _figures(found))
    table = table_of(["RATE\nper s", "TRIALS", "THROUGHPUT\nper s", *figures, "HOLDS", ""])
    for each in found.tried:
        table.add_row(*_cells(each, found))
    return table


def limit_warnings(found: FoundRate) -> Iterator[str]:
    """What went wrong at the rates on both sides of the limit, with the rate: elsewhere, trials are meant to fail."""
    for each in found.at_the_limit:
        for warning in each.middle.warnings:
            yield f"{each.middle.load}: {warning}"


def _figures(found: FoundRate) -> tuple[str, ...]:
    own = found.condition.figure
    return BASIC_FIGURES if own in BASIC_FIGURES else (*BASIC_FIGURES, own)


def _cells(each: TriedRate, found: FoundRate) -> list[str | Text]:
    held = sum(judged.trial.holds for judged in each.judged)
    trials = f"{held} of {len(each.judged)}"
    own = found.condition.figure
    value = ms_text(each.value if math.isfinite(each.value) else None)
    figures = (value if name == own else percentile_text(each.middle.latency, name) for name in _figures(found))
    return [
        number_text(each.rate),
        trials,
        number_text(each.middle.throughput),
        *figures,
        _verdict(each.holds),
        Text(each.reason, BAD),
    ]


def _verdict(holds: bool | None) -> Text:
    if holds is None:
        return Text("-")
    return Text("yes", GOOD) if holds else Text("no", BAD)
