"""Compares runs: which of their phases correspond, and by how much they differ. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.client.load.record.run import Run
from headrace.client.load.report.rate_search import found_only
from headrace.client.load.report.summary import Summary, summarise

NOTABLE_PERCENT = 5.0
"""Smaller differences are more likely to be chance."""


class ComparisonRow(NamedTuple):
    """A load, and the summary of its phase in each run; None for a run without it."""

    load: str
    summaries: tuple[Summary | None, ...]


def comparison_rows(runs: Sequence[Run]) -> list[ComparisonRow]:
    """The loads of the first run in their order, then those that only others have. A repeated load is another row.

    If every run has a single phase, these are compared whatever their loads are. Of a search, that is the best trial of
    the rate it found.
    """
    if len(runs) > 1:
        runs = [found_only(run) for run in runs]
    summaries = [[summarise(outcome) for outcome in run.outcomes] for run in runs]
    if all(len(each) == 1 for each in summaries):
        loads = list(dict.fromkeys(each[0].load for each in summaries))
        return [ComparisonRow(" and ".join(loads), tuple(each[0] for each in summaries))]
    placed = [_numbered(each) for each in summaries]
    keys = dict.fromkeys(key for each in placed for key in each)
    return [ComparisonRow(load, tuple(each.get((load, turn)) for each in placed)) for load, turn in keys]


def difference(first: float | None, other: float | None) -> float | None:
    """The difference as a percentage of the first; None if one of them is missing or the first is 0."""
    if first is None or other is None or (first == 0 and other != 0):
        return None
    return 100 * (other - first) / first if first else 0.0


def _numbered(summaries: Sequence[Summary]) -> dict[tuple[str, int], Summary]:
    """The summaries by load and by how often the load occurred before."""
    found: dict[tuple[str, int], Summary] = {}
    for summary in summaries:
        turn = sum(load == summary.load for load, _ in found)
        found[summary.load, turn] = summary
    return found
