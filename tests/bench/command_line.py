"""What `python -m tests.bench` takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.bench.cases.case import Case
from tests.bench.serving.ways import Way, parsed_way

SECONDS, QUICK_SECONDS = 1.0, 0.4
QUICK_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Options:
    cases: Sequence[Case]
    ways: Sequence[Way]
    """Empty: those of this checkout."""
    seconds: float
    rounds: int | None
    """None: as many as each case says."""
    quick: bool
    """A trial of the bench itself, which is no part of the history."""
    strict: bool
    history: Path

    def rounds_of(self, case: Case) -> int:
        return 1 if case.once else self.rounds or case.rounds


def parsed(arguments: Sequence[str], cases: Sequence[Case]) -> Options:
    """The options of a run. Ends the process if they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Headrace beside its limits.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="CASE", help="measure this case; repeatable. A * stands for any"
    )
    parser.add_argument("--list", action="store_true", help="print the names of all cases, and do not measure")
    parser.add_argument(
        "--way",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="serve like this, as in aio='headrace-server --transport aio'; the first is judged; repeatable",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each case")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"length of a turn (default: {SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, not added to the history")
    parser.add_argument("--long", action="store_true", help="also measure the cases that take minutes")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a ratio misses what it must reach")
    parser.add_argument("--history", type=Path, default=Path("build/bench/history.jsonl"), metavar="FILE")
    given = parser.parse_args(arguments)
    if given.list:
        for case in cases:
            print(f"{case.name:20} {case.title}")
        parser.exit()
    chosen = _chosen(cases, given.only, long=given.long)
    if isinstance(chosen, str):
        parser.error(f"there is no case {chosen}; --list prints all")
    try:
        ways = [parsed_way(text) for text in given.way]
    except ValueError as error:
        parser.error(str(error))
    if len({way.name for way in ways}) < len(ways):
        parser.error("two ways have the same name")
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else None)
    return Options(chosen, ways, seconds, rounds, given.quick, given.strict, given.history)


def _chosen(cases: Sequence[Case], patterns: Sequence[str], *, long: bool) -> list[Case] | str:
    """The cases, or a pattern that none has."""
    if not patterns:
        return [case for case in cases if case.needs() and (long or not case.slow)]
    for pattern in patterns:
        if not any(fnmatchcase(case.name, pattern) for case in cases):
            return pattern
    return [case for case in cases if any(fnmatchcase(case.name, pattern) for pattern in patterns)]
