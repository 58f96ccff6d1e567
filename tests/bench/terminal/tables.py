"""The tables of a run: the figures of each way, and the ratios with what is demanded of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tests.bench.measuring.bounds import Verdict
from tests.bench.measuring.ratio import Ratio
from tests.bench.measuring.rounds import Measured
from tests.bench.measuring.spread import Spread, spread
from tests.bench.measuring.turn import Turn

STYLES = {Verdict.AIM: "green", Verdict.REACHED: "green", Verdict.MISSED: "red", Verdict.NO_BOUND: ""}


def figure_table(measured: Sequence[Measured], *, ways: int) -> Table:
    """A row for each case and way, with the spread over rounds, and the reference's."""
    table = Table(title="Figures: median (lowest to highest round); processor time for a request, in us")
    table.add_column("case")
    if ways > 1:
        table.add_column("way")
    for name in ("figure", "server", "client", "reference", "its server", "its client"):
        table.add_column(name, justify="right")
    last = ""
    for each in measured:
        name, last = "" if each.case.name == last else each.case.title, each.case.name
        cells = ["failed" if each.failure else each.missing, *[""] * 5] if not each.rounds else _cells(each)
        table.add_row(name, *([each.way] if ways > 1 else []), *cells)
    return table


def done_text(measured: Measured) -> str:
    """What is printed as soon as a case is measured."""
    name = f"{measured.case.name}, {measured.way}: "
    if not measured.rounds:
        return name + measured.missing
    figure = measured.case.figure
    return name + figure_text(spread([figure.of(each.turn) for each in measured.rounds.values()]), figure.unit)


def ratio_table(ratios: Sequence[Ratio], *, ways: int, quiet: bool) -> Table:
    """A verdict has a question mark unless the machine was quiet."""
    table = Table(title="Ratios, taken within rounds: what must be reached, what is aimed for")
    table.add_column("ratio")
    if ways > 1:
        table.add_column("way")
    for name in ("rounds", "lowest", "median", "highest", "must", "aim"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    last = ""
    for each in ratios:
        title, last = "" if each.title == last else each.title, each.title
        verdict = f"[{STYLES[each.verdict]}]{each.verdict}{'' if quiet else '?'}[/]" if each.verdict else ""
        table.add_row(
            title,
            *([each.way] if ways > 1 else []),
            str(each.rounds),
            *(f"{value:.3g}" for value in (each.spread.low, each.spread.median, each.spread.high)),
            *(_bound(bound, less=each.bound.less) for bound in (each.bound.must, each.bound.aim)),
            ", ".join([verdict, *each.notes] if verdict else each.notes),
        )
    return table


def verdicts_text(ratios: Sequence[Ratio]) -> str:
    """How many of those of which something is demanded reached it."""
    judged = [each.verdict for each in ratios if each.verdict]
    missed, aims = judged.count(Verdict.MISSED), judged.count(Verdict.AIM)
    return f"Ratios that are judged: {len(judged)}; missed: {missed}; aim reached: {aims}."


def _cells(measured: Measured) -> list[str]:
    case, rounds = measured.case, list(measured.rounds.values())
    ours = [each.turn for each in rounds]
    references = [each.reference for each in rounds if each.reference is not None]
    cells = [figure_text(spread([case.figure.of(turn) for turn in ours]), case.figure.unit), *_processor(ours)]
    if case.reference is None or not references:
        return [*cells, "", "", ""]
    figure = case.reference.figure
    return [*cells, figure_text(spread([figure.of(turn) for turn in references]), figure.unit), *_processor(references)]


def figure_text(values: Spread, unit: str) -> str:
    low, median, high = (_number(value) for value in (values.low, values.median, values.high))
    return f"{median}{unit if unit == '/s' else f' {unit}'.rstrip()} ({low} to {high})"


def _processor(turns: Sequence[Turn]) -> list[str]:
    known = ([turn.server_us for turn in turns], [turn.client_us for turn in turns])
    return [
        _number(spread([each for each in values if each is not None]).median) if all(values) else "" for values in known
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bound(bound: float | None, *, less: bool) -> str:
    return "" if bound is None else f"{'≤' if less else '≥'} {bound:g}"
