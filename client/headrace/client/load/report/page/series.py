"""The content of a page: each phase of each run, with a unique name and a colour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import PurePath
from typing import NamedTuple

from headrace.client.load.planning.phases import ClosedLoop
from headrace.client.load.record.run import Outcome, Run
from headrace.client.load.record.samples import Floats
from headrace.client.load.record.spool import SampleSpool
from headrace.client.load.report.chunked import Chunked, latencies
from headrace.client.load.report.conditions import SERVICE, Condition
from headrace.client.load.report.differences import ComparisonRow, comparison_rows
from headrace.client.load.report.rate_search import FoundRate, found_only, found_rate
from headrace.client.load.report.repetitions import Repetitions
from headrace.client.load.report.summary import Summary, load_text, summarise
from headrace.client.terminal.printing import printable

MAX_NAME_CHARACTERS = 60


class Colour(NamedTuple):
    """A colour on a light and on a dark background."""

    light: str
    dark: str


# Distinct for colour-blind readers too (after Okabe and Ito), with a contrast of at least 3:1 to the background.
DISTINCT_COLOURS = (
    Colour("#0072b2", "#56b4e9"),
    Colour("#c85000", "#ff9047"),
    Colour("#00805a", "#2fc99b"),
    Colour("#a6428a", "#e69acb"),
    Colour("#8a6d00", "#f0c84b"),
    Colour("#46586a", "#aebecb"),
)
# For growing loads: darker for more, which everyone can see. On a dark background, lighter for more.
GRADIENT_COLOURS = (
    Colour("#d58a1c", "#7f7af0"),
    Colour("#c24a6a", "#d06ad0"),
    Colour("#80309a", "#fb9270"),
    Colour("#221a78", "#ffe08a"),
)


@dataclass(frozen=True, slots=True)
class Series:
    run: int
    name: str
    """The name of the run."""
    load: str
    """The load of the phase, made unique within its run."""
    label: str
    """The name, the load, or both: what distinguishes it from the others."""
    offset: float
    """Seconds from the beginning of the run to this phase."""
    colour: int
    """Its index in `PageContent.colours`."""
    outcome: Outcome
    summary: Summary

    @property
    def latencies(self) -> Chunked[Floats]:
        """Of the successes, in seconds."""
        return latencies(self.outcome.samples)

    @property
    def closed(self) -> bool:
        return isinstance(self.outcome.phase.load, ClosedLoop)


@dataclass(frozen=True, slots=True)
class PageContent:
    runs: Sequence[Run]
    series: list[Series]
    colours: list[Colour]
    whole: list[Series]
    """The series, with repetitions of a load as one."""
    rows: list[ComparisonRow]
    """The runs load by load."""
    found: FoundRate | None = None
    """If the only run is a search: its result. The series are then the middle trials, by their rates."""
    objectives: tuple[Condition, ...] = ()
    """What the runs should fulfil."""

    @property
    def has_clock(self) -> bool:
        """Whether a moment has a time of day: a search is shown by rates, and runs side by side have none in common."""
        known = all(each.outcome.began is not None for each in self.series)
        return known and len(self.runs) == 1 and self.found is None

    @property
    def limits(self) -> list[float]:
        """The limits of latencies, in seconds."""
        conditions = (*self.objectives, *([self.found.condition] if self.found else []))
        seconds = (each.seconds for each in conditions if not each.figure.startswith(SERVICE))
        return list(dict.fromkeys(limit for limit in seconds if limit is not None))

    @property
    def phased(self) -> bool:
        """Whether a run has several phases."""
        return len(self.series) > len(self.runs)

    @property
    def groups(self) -> list[str]:
        """The name of each colour."""
        labels = {each.colour: each.name if self.by_run else each.label for each in self.series}
        return [labels[colour] for colour in sorted(labels)]

    @property
    def by_run(self) -> bool:
        """Whether a colour stands for a run, as all phases of all runs would be too many to tell apart."""
        return self.phased and len(self.runs) > 1

    @property
    def best_phases(self) -> list[Series]:
        """The phase with the highest throughput of each run; of a search, that of the rate it found.

        Repetitions are one: their summary, and the requests of all of them.
        """
        if self.found is not None and self.found.best is not None:
            outcome = self.found.best.middle_outcome
            return [each for each in self.series if each.outcome is outcome]
        best: dict[int, Series] = {}
        for each in self.whole:
            other = best.get(each.run)
            if other is None or each.summary.throughput > other.summary.throughput:
                best[each.run] = each
        return list(best.values())

    @property
    def timed(self) -> list[Series]:
        """What is drawn over time: all series, but of a search only the rates on both sides of the limit."""
        if self.found is None:
            return self.series
        ends = accumulate(each.outcome.elapsed for each in self.series_to_warn_about)
        return [
            replace(each, offset=end - each.outcome.elapsed)
            for each, end in zip(self.series_to_warn_about, ends, strict=True)
        ]

    @property
    def series_to_warn_about(self) -> list[Series]:
        """All series; of a search, those on both sides of the limit, as the other trials are meant to fail."""
        if self.found is None:
            return self.series
        outcomes = [each.middle_outcome for each in self.found.at_the_limit]
        return [each for each in self.series if any(each.outcome is outcome for outcome in outcomes)]

    @property
    def side_by_side(self) -> list[Series]:
        """All series, with those of the same load next to each other."""
        loads = list(dict.fromkeys(each.load for each in self.series)) if self.phased else []
        return sorted(self.series, key=lambda each: loads.index(each.load) if loads else 0)

    def row(self, each: Series) -> ComparisonRow | None:
        """The row of a series; None if it has none."""
        load = load_text(each.outcome.phase.load)
        return next((row for row in self.rows if len(self.rows) == 1 or row.load == load), None)

    def differs(self, each: Series, figure: str) -> bool | None:
        """Whether a figure differs from that of the first run by more than chance; None if that is unknown."""
        row = self.row(each)
        return None if row is None or not figure else row.differs(each.run, figure)

    def baseline(self, other: Series) -> Series | None:
        """The series of the first run with the same load; None for a series of the first run, or if there is none."""
        if not other.run:
            return None
        among = self.series if any(each is other for each in self.series) else self.whole
        single = not self.phased or (among is self.whole and len(self.rows) == 1)
        return next((each for each in among if not each.run and (single or each.load == other.load)), None)


def page_content(runs: Sequence[Run], objectives: Sequence[Condition] = ()) -> PageContent:
    """The content for these runs. A run without phases has no series, but counts as a run."""
    rows, found = comparison_rows(runs), found_rate(runs[0]) if len(runs) == 1 else None
    if found is not None:
        runs = [replace(runs[0], outcomes=[each.middle_outcome for each in found.tried])]
    elif len(runs) > 1:
        runs = [found_only(run) for run in runs]
    names = _unique(_name(run.name) or f"run {place}" for place, run in enumerate(runs, 1))
    phased = any(len(run.outcomes) > 1 for run in runs)
    lengths = [
        max((run.outcomes[at].elapsed for run in runs if at < len(run.outcomes)), default=0.0)
        for at in range(_most(runs))
    ]
    known = _summaries(rows)
    series: list[Series] = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        summaries = [known.get(id(outcome)) or summarise(outcome) for outcome in run.outcomes]
        loads = _unique(summary.load for summary in summaries)
        for at, (outcome, summary, load) in enumerate(zip(run.outcomes, summaries, loads, strict=True)):
            label = load if len(runs) == 1 else f"{name}, {load}" if phased else name
            colour = place if len(runs) > 1 else at
            series.append(Series(place, name, load, label, sum(lengths[:at]), colour, outcome, summary))
    colours = _colours(1 + max((each.colour for each in series), default=0), len(runs) == 1)
    whole = _whole_series(series, rows) if any(run.settings.repeat > 1 for run in runs) else series
    return PageContent(runs, series, colours, whole, rows, found, tuple(objectives))


def _summaries(rows: Sequence[ComparisonRow]) -> dict[int, Summary]:
    """Those that have been computed, by the identity of the outcome: of a long run, they take seconds."""
    compared = [each for row in rows for each in row.repetitions if each is not None]
    return {
        id(outcome): summary
        for each in compared
        for outcome, summary in zip(each.outcomes, each.summaries, strict=True)
    }


def _whole_series(series: Sequence[Series], rows: Sequence[ComparisonRow]) -> list[Series]:
    """A series for each load of each run."""
    firsts = {each.run: each for each in reversed(series)}
    phased = len(rows) > 1 or len(firsts) == 1
    return [
        _whole(firsts[at], repeated, phased=phased)
        for row in rows
        for at, repeated in enumerate(row.repetitions)
        if repeated is not None
    ]


def _whole(first: Series, repeated: Repetitions, *, phased: bool) -> Series:
    """The repetitions of a load in the run of `first`. The time of their requests has no meaning."""
    load = repeated.summary.load
    named = f"{first.name}, {load}" if first.label != first.load else load
    label = named if phased else first.name
    spool = SampleSpool()
    for outcome in repeated.outcomes:
        for chunk in outcome.samples.chunks():
            spool.add(chunk)
    tails = tuple(tail for outcome in repeated.outcomes for tail in outcome.tails)
    unsent = sum(outcome.unsent for outcome in repeated.outcomes)
    outcome = replace(repeated.outcomes[0], samples=spool.take(), tails=tails, unsent=unsent)
    return replace(first, load=load, label=label, outcome=outcome, summary=repeated.summary)


def _colours(count: int, growing: bool) -> list[Colour]:
    """`count` colours: a gradient for the phases of a run, distinct ones for runs."""
    if count <= 2 or (count <= len(DISTINCT_COLOURS) and not growing):
        return list(DISTINCT_COLOURS[:count])
    return [
        Colour(*(_between([stop[at] for stop in GRADIENT_COLOURS], place / (count - 1)) for at in (0, 1)))
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
    """The name of a file without its suffix."""
    name = printable(PurePath(path).name)
    name = name.removesuffix(PurePath(name).suffix)
    return name if len(name) <= MAX_NAME_CHARACTERS else f"{name[: MAX_NAME_CHARACTERS - 1]}…"


def _unique(names: Iterable[str]) -> list[str]:
    """The names made unique: `a`, `b`, `a (2)`."""
    found: dict[str, int] = {}
    unique = []
    for name in names:
        found[name] = found.get(name, 0) + 1
        unique.append(f"{name} ({found[name]})" if found[name] > 1 else name)
    return unique
