"""Measures every case with every way of serving, prints tables, and adds the run to the history."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tests.bench.cases.case import Serving, Setting
from tests.bench.cases.catalogue import CASES
from tests.bench.command_line import Options, parsed
from tests.bench.history.entry import append, entry_of, read
from tests.bench.measuring.bounds import Verdict
from tests.bench.measuring.echo_mode import EchoModes
from tests.bench.measuring.noise import Noise
from tests.bench.measuring.ratios import ratios
from tests.bench.measuring.rounds import Measured, measure
from tests.bench.measuring.turn import TurnFailed
from tests.bench.page.page import render_page
from tests.bench.references.echo import echo_server
from tests.bench.serving.server import Server, running
from tests.bench.serving.ways import Way, builds, ways_of_this_checkout
from tests.bench.terminal.tables import done_text, figure_table, ratio_table, verdicts_text

MIN_WIDTH = 150
"""One line for each row, in a log too."""


class Absence(NamedTuple):
    """Why a way has no server for a case."""

    failure: str = ""
    lacks: str = ""


def main(arguments: Sequence[str]) -> int:
    options = parsed(arguments, CASES)
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    ways = options.ways or ways_of_this_checkout()
    for way in ways:
        console.print(f"{way.name}: {way.text}", highlight=False)
    noise, measured = Noise(), list[Measured]()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # report what there is, as after Ctrl-C
    try:
        with console.status("measuring", refresh_per_second=1) as status:  # drawing takes a processor's time
            for each in _measured(options, ways, noise, status.update):
                measured.extend(each)
                console.print(*map(done_text, each), sep="\n", highlight=False, markup=False)
    except KeyboardInterrupt:
        console.print("Interrupted: these are the cases that were measured until then.")
    if not measured:
        return 130
    return _report(console, options, ways, noise, measured)


def _measured(
    options: Options, ways: Sequence[Way], noise: Noise, say: Callable[[str], None]
) -> Iterator[list[Measured]]:
    """The cases, one after the other; the servers of cases that share them run as long as those are measured."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name, echo_server() as echo:
        setting = Setting(options.seconds, Path(name), echo)
        for serving, cases in groupby(options.cases, lambda case: case.serving):
            with ExitStack() as stack:
                say("starting servers")
                servers, absent = _servers(serving, ways, setting.folder, stack)
                for case in cases:
                    rounds = options.rounds_of(case)
                    yield [
                        *(measure(case, servers, setting, noise, rounds, say) if servers else []),
                        *(Measured(case, way, {}, rounds, why.failure, why.lacks) for way, why in absent.items()),
                    ]


def _servers(
    serving: Serving, ways: Sequence[Way], folder: Path, stack: ExitStack
) -> tuple[list[Server], dict[str, Absence]]:
    """One of each way, and why others have none. They are started one after the other, as they measure models."""
    servers: list[Server] = []
    absent: dict[str, Absence] = {}
    arguments = serving.arguments(folder)
    for way in ways:
        if serving.needs and not way.has_option(serving.needs):
            absent[way.name] = Absence(lacks=serving.needs)
            continue
        known = [option for option in serving.options if way.has_option(option.partition("=")[0])]
        try:
            servers.append(stack.enter_context(running(way, [*arguments, *known])))
        except TurnFailed as failed:
            absent[way.name] = Absence(failure=str(failed))
    return servers, absent


def _report(console: Console, options: Options, ways: Sequence[Way], noise: Noise, measured: Sequence[Measured]) -> int:
    found = ratios(measured, builds(ways))
    verdict = noise.verdict()
    echo = EchoModes([round.echo for each in measured for round in each.rounds.values() if round.echo is not None])
    console.print(figure_table(measured, ways=len(ways)))
    for each in measured:
        if each.failure:
            console.print(f"{each.case.name}, {each.way}: {each.missing}", style="red", highlight=False, markup=False)
    if found:
        console.print(ratio_table(found, ways=len(ways), quiet=verdict.quiet))
        console.print(verdicts_text([each for each in found if each.way == ways[0].name]), highlight=False)
    console.print(str(verdict), highlight=False, style="" if verdict.quiet else "yellow")
    console.print(str(echo), highlight=False)
    if not options.quick:
        append(entry_of(measured, found, verdict, echo, ways), options.history)
        page = options.history.with_name("index.html")
        page.write_text(render_page(read(options.history)), "utf-8")
        console.print(f"Added to {options.history}, and plotted by {page}.", highlight=False)
    judged = ways[0].name
    wrong = any(each.verdict is Verdict.MISSED for each in found if each.way == judged)
    wrong |= any(each.failure for each in measured if each.way == judged)
    return 1 if options.strict and wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
