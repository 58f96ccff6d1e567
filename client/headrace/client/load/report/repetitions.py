"""Repetitions of a load in one run (`--repeat`), and the one summary that stands for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from headrace.client.load.record.run import Outcome
from headrace.client.load.report.confidence import (
    Interval,
    differ,
    differ_in_pairs,
    interval,
    part_values,
    repeated_values,
)
from headrace.client.load.report.delays import Delay
from headrace.client.load.report.summary import Summary, summarise

ADDED = ("elapsed",)
"""What is added up although it is no count."""


@dataclass(frozen=True, slots=True)
class Repetitions:
    """The phases of a run with the same load: several with `--repeat`, else one."""

    outcomes: tuple[Outcome, ...]
    summaries: tuple[Summary, ...]
    summary: Summary
    """Counts are added up, and other figures are means."""

    def interval(self, figure: str) -> Interval | None:
        """The confidence interval of a figure of `confidence.COMPARED_FIGURES`; None without repetitions."""
        values = repeated_values(self.summaries, figure)
        return None if values is None else interval(values)

    def differs(self, other: Repetitions, figure: str) -> bool | None:
        """Whether a figure differs by more than chance; None if there are too few requests to say."""
        if len(self.outcomes) > 1 and len(other.outcomes) > 1:
            mine, others = (repeated_values(each.summaries, figure) for each in (self, other))
            return None if mine is None or others is None else differ(mine, others)
        (one, two) = (part_values(each.outcomes[0], figure) for each in (self, other))
        if one is None or two is None:
            return None
        same = self.outcomes[0].phase.load == other.outcomes[0].phase.load
        return differ_in_pairs(one, two) if same else differ(one, two)


def repetitions(outcomes: Sequence[Outcome]) -> Repetitions:
    """At least one outcome; one that was interrupted counts only if there is no other."""
    complete = [outcome for outcome in outcomes if not outcome.interrupted] or outcomes[:1]
    summaries = tuple(map(summarise, complete))
    return Repetitions(tuple(complete), summaries, summaries[0] if len(summaries) == 1 else _averaged(summaries))


def _averaged(summaries: Sequence[Summary]) -> Summary:
    named = {
        each.name: _together([getattr(summary, each.name) for summary in summaries], add=each.name in ADDED)
        for each in fields(Summary)
    }
    averaged: Summary = replace(summaries[0], **named)
    return replace(averaged, load=f"{len(summaries)} times {averaged.load}", warnings=_warnings(summaries))


def _together(values: Sequence[Any], *, add: bool = False) -> Any:
    """Counts added up, names collected, and the means of other figures; None if one of them is missing."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, bool):
        return any(values)
    if isinstance(first, int):
        return sum(values)
    if isinstance(first, float):
        return sum(values) if add else sum(values) / len(values)
    if isinstance(first, dict):
        return {key: sum(value.get(key, 0) for value in values) for key in dict.fromkeys(k for v in values for k in v)}
    if is_dataclass(first) and not isinstance(first, type):
        parts = {each.name: _together([getattr(value, each.name) for value in values]) for each in fields(first)}
        return replace(first, **parts)
    if isinstance(first, frozenset):
        return frozenset().union(*values)
    if isinstance(first, Delay):
        requests, seconds = zip(*values, strict=True)
        return Delay(sum(requests), sum(seconds))
    if isinstance(first, tuple):
        # A named tuple takes its values one by one.
        return type(first)(*map(_together, zip(*values, strict=True)))
    return first


def _warnings(summaries: Sequence[Summary]) -> list[str]:
    """Those of the repetition with the most, and how many others have some."""
    count = len(summaries)
    worst = max(range(count), key=lambda at: len(summaries[at].warnings))
    warnings = [f"{warning} (repetition {worst + 1})" for warning in summaries[worst].warnings]
    others = sum(bool(summary.warnings) for summary in summaries) - bool(warnings)
    return [*warnings, f"{others} more of {count} repetitions have warnings"] if others else warnings
