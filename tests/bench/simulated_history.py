"""Runs that nobody has measured, for the page."""

from __future__ import annotations

from pathlib import Path

from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.history.entry import Entry, entry_of
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.echo_mode import EchoMode, EchoModes
from tests.bench.measuring.noise import LoopTime, judged
from tests.bench.measuring.ratios import ratios
from tests.bench.measuring.rounds import Measured, Round
from tests.bench.measuring.turn import Turn
from tests.bench.serving.server import Server
from tests.bench.serving.ways import Way

FAST = EchoMode(fast=True, took_us=70, limit_us=95)


def _arguments(_: Path) -> list[str]:
    raise AssertionError("no server is needed")


def _turn(_setting: Setting, _server: Server) -> Turn:
    raise AssertionError("no turn is needed")


def simulated_case(title: str, bound: Bound | None = None) -> Case:
    name = title.replace(" ", "-")
    return Case(name, title, Serving(_arguments), _turn, reference=Reference("echo"), bound=bound or Bound(2, 3))


def simulated_run(number: int, titles: list[str], *, quiet: bool = True, ways: tuple[str, ...] = ("here",)) -> Entry:
    """Each run is a little faster than the one before, and each way slower."""
    measured = [
        Measured(
            simulated_case(title),
            way,
            {at: _round(1000 + 150 * number + 30 * at, 500 + 200 * slower) for at in range(3)},
        )
        for title in titles
        for slower, way in enumerate(ways)
    ]
    noise = judged([LoopTime(0.011 if quiet else 0.03, 0.011)] * 5)
    found = ratios(measured, {})
    entry = entry_of(measured, found, noise, EchoModes([FAST]), [Way(way, ("headrace-server",)) for way in ways])
    return entry | {"date": f"2026-01-{number + 1:02}T12:00:00+00:00", "commit": f"{number:07x}"}


def _round(ours: int, echo: int) -> Round:
    return Round(Turn(ours, 1.0, None, None, 0.4, 0.3), Turn(echo, 1.0, None, None, 0.1, 0.1), FAST)
