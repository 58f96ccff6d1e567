"""What a page shows: each phase of each run, with a name that no other has, and a colour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from headrace.client.load.report.summary import Summary, summarise
from headrace.client.load.run import ClosedLoop, Outcome, Run
from headrace.client.terminal.printing import printable

LONGEST = 60
"""Characters of a name."""


class Colour(NamedTuple):
    """On light and on dark ground."""

    light: str
    dark: str


# Apart for people who see few colours too (after Okabe and Ito), and at least 3:1 against the ground.
APART = (
    Colour("#0072b2", "#56b4e9"),
    Colour("#c85000", "#ff9047"),
    Colour("#00805a", "#2fc99b"),
    Colour("#a6428a", "#e69acb"),
    Colour("#8a6d00", "#f0c84b"),
    Colour("#46586a", "#aebecb"),
)
# For loads that grow: so does the darkness, which everybody sees. On dark ground it is the other way round.
GROWING = (
    Colour("#d58a1c", "#7f7af0"),
    Colour("#c24a6a", "#d06ad0"),
    Colour("#80309a", "#fb9270"),
    Colour("#221a78", "#ffe08a"),
)


@dataclass(frozen=True, slots=True)
class Series:
    run: int
    name: str
    """Of the run."""
    load: str
    """Of the phase; no other of its run has it."""
    label: str
    """Of both, as far as they tell it from the others."""
    offset: float
    """Seconds of the run before this phase."""
    colour: int
    """Its place in `Shown.colours`."""
    outcome: Outcome
    summary: Summary

    @property
    def closed(self) -> bool:
        return isinstance(self.outcome.phase.load, ClosedLoop)


@dataclass(frozen=True, slots=True)
class Shown:
    runs: Sequence[Run]
    series: list[Series]
    colours: list[Colour]

    @property
    def phased(self) -> bool:
        """A run has several phases."""
        return len(self.series) > len(self.runs)

    @property
    def groups(self) -> list[str]:
        """What each colour stands for."""
        labels = {each.colour: each.name if self.by_run else each.label for each in self.series}
        return [labels[colour] for colour in sorted(labels)]

    @property
    def by_run(self) -> bool:
        """A colour is a run, since all phases of all runs would be too many to tell apart."""
        return self.phased and len(self.runs) > 1

    @property
    def headlines(self) -> list[Series]:
        """Of each run the phase with the highest throughput."""
        best: dict[int, Series] = {}
        for each in self.series:
            held = best.get(each.run)
            if held is None or each.summary.throughput > held.summary.throughput:
                best[each.run] = each
        return list(best.values())

    @property
    def side_by_side(self) -> list[Series]:
        """What is compared stands together."""
        loads = list(dict.fromkeys(each.load for each in self.series)) if self.phased else []
        return sorted(self.series, key=lambda each: loads.index(each.load) if loads else 0)

    def base(self, other: Series) -> Series | None:
        """What it is compared with: the same load of the first run; None for that itself, or if the first had none."""
        if not other.run:
            return None
        same = (each for each in self.series if not each.run and (not self.phased or each.load == other.load))
        return next(same, None)


def shown(runs: Sequence[Run]) -> Shown:
    """Runs without phases show nothing, but are there."""
    names = _unique(_name(run.name) or f"run {place}" for place, run in enumerate(runs, 1))
    phased = any(len(run.outcomes) > 1 for run in runs)
    lengths = [
        max((run.outcomes[at].elapsed for run in runs if at < len(run.outcomes)), default=0.0)
        for at in range(_most(runs))
    ]
    series: list[Series] = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        summaries = [summarise(outcome) for outcome in run.outcomes]
        loads = _unique(summary.load for summary in summaries)
        for at, (outcome, summary, load) in enumerate(zip(run.outcomes, summaries, loads, strict=True)):
            label = load if len(runs) == 1 else f"{name}, {load}" if phased else name
            colour = place if len(runs) > 1 else at
            series.append(Series(place, name, load, label, sum(lengths[:at]), colour, outcome, summary))
    return Shown(runs, series, _colours(1 + max((each.colour for each in series), default=0), len(runs) == 1))


def _colours(count: int, growing: bool) -> list[Colour]:
    """Phases of a run are in an order, runs are not."""
    if count <= 2 or (count <= len(APART) and not growing):
        return list(APART[:count])
    return [
        Colour(*(_between([stop[at] for stop in GROWING], place / (count - 1)) for at in (0, 1)))
        for place in range(count)
    ]


def _between(stops: Sequence[str], share: float) -> str:
    at = min(int(share * (len(stops) - 1)), len(stops) - 2)
    rest = share * (len(stops) - 1) - at
    pairs = zip(bytes.fromhex(stops[at][1:]), bytes.fromhex(stops[at + 1][1:]), strict=True)
    return "#" + bytes(round(one + rest * (other - one)) for one, other in pairs).hex()


def _most(runs: Sequence[Run]) -> int:
    return max((len(run.outcomes) for run in runs), default=0)


def _name(path: str) -> str:
    """Of a file, without its ending."""
    name = printable(PurePath(path).name)
    name = name.removesuffix(PurePath(name).suffix)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _unique(names: Iterable[str]) -> list[str]:
    """`a`, `b`, `a (2)`."""
    found: dict[str, int] = {}
    unique = []
    for name in names:
        found[name] = found.get(name, 0) + 1
        unique.append(f"{name} ({found[name]})" if found[name] > 1 else name)
    return unique
