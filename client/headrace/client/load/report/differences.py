"""Runs beside each other: which of their phases belong together, and by how much they differ. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.client.load.report.summary import Summary, summarise
from headrace.client.load.run import Run

NOTICED = 5.0
"""Percent. Smaller differences are more often chance."""


class Row(NamedTuple):
    """A load, and its phase in each of the runs; None in those that did not have it."""

    load: str
    summaries: tuple[Summary | None, ...]


def rows(runs: Sequence[Run]) -> list[Row]:
    """In the order of the first run, and then what only others have. A load that a run has twice is two rows.

    Where each run has a single phase, they are compared whatever their loads are.
    """
    summaries = [[summarise(outcome) for outcome in run.outcomes] for run in runs]
    if all(len(each) == 1 for each in summaries):
        loads = list(dict.fromkeys(each[0].load for each in summaries))
        return [Row(" and ".join(loads), tuple(each[0] for each in summaries))]
    placed = [_numbered(each) for each in summaries]
    keys = dict.fromkeys(key for each in placed for key in each)
    return [Row(load, tuple(each.get((load, turn)) for each in placed)) for load, turn in keys]


def difference(first: float | None, other: float | None) -> float | None:
    """In percent of the first; None where one of them does not exist, or nothing can be a share of the first."""
    if first is None or other is None or (first == 0 and other != 0):
        return None
    return 100 * (other - first) / first if first else 0.0


def _numbered(summaries: Sequence[Summary]) -> dict[tuple[str, int], Summary]:
    """By load, and how often it came before."""
    found: dict[tuple[str, int], Summary] = {}
    for summary in summaries:
        turn = sum(load == summary.load for load, _ in found)
        found[summary.load, turn] = summary
    return found
