"""Percentiles of durations in groups, as of each stretch of a phase. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.samples import Floats
from headrace.client.load.report.chunked import Chunked
from headrace.client.load.report.distribution import rank
from headrace.client.load.report.ranking import Keys, ranked

NANOSECONDS = 1e9

Groups = npt.NDArray[np.int64]
Grouped = Chunked[tuple[Groups, Floats]]
"""The number of the group of each duration, and the durations in seconds."""


@dataclass(frozen=True, slots=True)
class GroupTotals:
    """What is known of each group."""

    counts: list[int]
    seconds: list[float]
    """All durations of the group together."""
    longest: float
    """Of all groups."""


def group_totals(grouped: Grouped, number: int) -> GroupTotals:
    """Of groups from 0 to below `number`."""
    counts, seconds, longest = np.zeros(number, np.int64), np.zeros(number), 0.0
    for groups, durations in grouped:
        counts += np.bincount(groups, minlength=number)
        seconds += np.bincount(groups, durations, minlength=number)
        longest = max(longest, float(durations.max(initial=0.0)))
    return GroupTotals(counts.tolist(), seconds.tolist(), longest)


def group_percentiles(
    grouped: Grouped, totals: GroupTotals, wanted: Callable[[int, int], bool], *thousandths: int
) -> dict[tuple[int, int], float]:
    """Percentiles by group and thousandths, to nanoseconds; those of which `wanted` is true for the group's count.

    A duration below zero counts as zero.
    """
    # Durations as whole numbers, those of each group above all of the group before.
    span = int(totals.longest * NANOSECONDS) + 2

    def keys(chunk: tuple[Groups, Floats]) -> Keys:
        groups, durations = chunk
        return (groups * span + np.rint(np.maximum(durations, 0.0) * NANOSECONDS).astype(np.int64)).astype(np.uint64)

    ranks: dict[tuple[int, int], int] = {}
    before = 0
    for group, count in enumerate(totals.counts):
        places = {(group, share): before + rank(count, share) - 1 for share in thousandths}
        ranks |= {place: at for place, at in places.items() if count and wanted(count, place[1])}
        before += count
    found = ranked(grouped.map(keys), list(ranks.values()), before, span * len(totals.counts))
    return {place: (each.key - place[0] * span) / NANOSECONDS for place, each in zip(ranks, found, strict=True)}
