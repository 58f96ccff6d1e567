"""What the tables of a run show."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.echo_mode import EchoMode
from tests.bench.measuring.ratios import ratios
from tests.bench.measuring.rounds import Measured, Round
from tests.bench.measuring.turn import Turn
from tests.bench.simulated_history import simulated_case
from tests.bench.terminal.tables import done_text, figure_table, ratio_table, verdicts_text

SLOW = EchoMode(fast=False, took_us=125, limit_us=95)
CASE = simulated_case("a case", Bound(2, 3))
DONE = Measured(
    CASE,
    "here",
    {at: Round(Turn(1000 + at, 1.0, None, None, 0.25, 0.125), Turn(600, 1.0), SLOW) for at in range(3)},
    asked=3,
)
LACKING = Measured(CASE, "aio", asked=3, lacks="--transport")


def printed(table: Table) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return " ".join(capture.get().replace("│", " ").split())


def test_figures_are_shown_with_their_spread_and_the_processor_time_of_both_ends() -> None:
    assert "a case here 1,001/s (1,000 to 1,002) 250 125 600/s (600 to 600)" in printed(figure_table([DONE], ways=2))


def test_a_way_that_was_not_measured_says_why() -> None:
    shown = printed(figure_table([DONE, LACKING], ways=2))
    assert "aio this server has no --transport" in shown
    assert done_text(LACKING) == "a-case, aio: this server has no --transport"


def test_ratios_are_shown_with_their_bounds_and_what_weakens_the_verdict() -> None:
    found = ratios([DONE], {})
    row = "a case / echo 3 1.67 1.67 1.67 ≥ 2 ≥ 3 "
    assert f"{row}missed, echo slow" in printed(ratio_table(found, ways=1, quiet=True))
    assert f"{row}missed?, echo slow" in printed(ratio_table(found, ways=1, quiet=False))
    assert verdicts_text(found) == "Ratios that are judged: 1; missed: 1; aim reached: 0."
