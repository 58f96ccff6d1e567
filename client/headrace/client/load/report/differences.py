"""Compares runs: which of their phases correspond, by how much they differ, and whether that may be chance. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.client.load.record.run import Outcome, Run
from headrace.client.load.report.rate_search import found_only
from headrace.client.load.report.repetitions import Repetitions, repetitions
from headrace.client.load.report.summary import Summary, load_text

NOTABLE_PERCENT = 5.0
"""Smaller differences are more likely to be chance."""


class ComparisonRow(NamedTuple):
    """A load, and its phase in each run, or its repetitions; None for a run without it."""

    load: str
    repetitions: tuple[Repetitions | None, ...]

    @property
    def summaries(self) -> tuple[Summary | None, ...]:
        return tuple(None if each is None else each.summary for each in self.repetitions)

    def differs(self, run: int, figure: str) -> bool | None:
        """Whether a figure of this run differs from that of the first by more than chance; None if that is unknown."""
        first, other = self.repetitions[0], self.repetitions[run]
        return None if first is None or other is None else first.differs(other, figure)


def comparison_rows(runs: Sequence[Run]) -> list[ComparisonRow]:
    """The loads of the first run in their order, then those that only others have. A repeated load is another row.

    If every run has a single phase, these are compared whatever their loads are. Of a search, that is the best trial of
    the rate it found.
    """
    if len(runs) > 1:
        runs = [found_only(run) for run in runs]
    placed = [_placed(run) for run in runs]
    if all(len(each) == 1 for each in placed):
        single = [next(iter(each.items())) for each in placed]
        loads = dict.fromkeys(load for (load, _), _ in single)
        return [ComparisonRow(" and ".join(loads), tuple(found for _, found in single))]
    keys = dict.fromkeys(key for each in placed for key in each)
    return [ComparisonRow(load, tuple(each.get((load, turn)) for each in placed)) for load, turn in keys]


def difference(first: float | None, other: float | None) -> float | None:
    """The difference as a percentage of the first; None if one of them is missing or the first is 0."""
    if first is None or other is None or (first == 0 and other != 0):
        return None
    return 100 * (other - first) / first if first else 0.0


def _placed(run: Run) -> dict[tuple[str, int], Repetitions]:
    """The phases by load and by how often the load occurred before; repetitions are one."""
    found: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in run.outcomes:
        load = load_text(outcome.phase.load)
        turn = 0 if run.settings.repeat > 1 else sum(other == load for other, _ in found)
        found.setdefault((load, turn), []).append(outcome)
    return {key: repetitions(outcomes) for key, outcomes in found.items()}
