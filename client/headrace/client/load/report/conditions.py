"""Conditions on the figures of a phase. Pure.

`--fail-if 'p99>20ms'` must be false, for CI; an objective, as in `--sla 'p99<20ms'` and `--search`, must be true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.summary import Summary
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

UNIT_SECONDS = {"us": Decimal("1e-6"), "µs": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1)}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
DURATIONS = {name: name.replace(".", "_") for name in ("p50", "p90", "p95", "p99", "p99.9", "max", "mean", "min")}
SERVICE = "service."
"""A prefix of durations: measured from when a request was sent instead of when it was due."""
COUNTS = ("errors", "late", "unsent")
KNOWN = f"{', '.join(DURATIONS)} (also as service.p99), {', '.join(COUNTS)}, plan, throughput"
EXAMPLES = "p99>20ms, errors>0, errors>1%, plan<99%, throughput<500/s"
OBJECTIVE_EXAMPLES = "p99<20ms, errors<1%, plan>=99%, throughput>500/s"
SYNTAX = re.compile(r"\s*([a-z0-9._]+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s|%|/s|)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """`figure operator limit`; the limit is as written, in `unit`."""

    figure: str
    operator: str
    limit: Decimal
    unit: str

    @property
    def text(self) -> str:
        """As it is written on a command line: `p99<20ms`."""
        return f"{self.figure}{self.operator}{self.limit:f}{self.unit}"

    @property
    def seconds(self) -> float | None:
        """The limit of a duration; None for other figures."""
        unit = UNIT_SECONDS.get(self.unit)
        return None if unit is None else float(self.limit * unit)

    def __str__(self) -> str:
        space = " " if self.unit in UNIT_SECONDS or self.unit == "%" else ""
        return f"{self.operator} {self.limit:f}{space}{self.unit}"


def parse_condition(text: str, option: str = "--fail-if", examples: str = EXAMPLES) -> Condition:
    """Parse a condition such as `p99>20ms` or `errors>1%`. Raises UsageError, which names the option."""
    found = SYNTAX.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {quote(text)} is not a condition; examples: {examples}")
    figure, relation, limit, unit = found.groups()
    units = _units(figure)
    if not units:
        raise UsageError(f"{option} {quote(text)}: unknown figure {quote(figure)}; choose from {KNOWN}")
    if unit not in units:
        allowed = " or ".join(each or "none" for each in units)
        raise UsageError(f"{option} {quote(text)}: the unit of {figure} must be {allowed}")
    return Condition(figure, relation, Decimal(limit), unit)


def parse_objective(text: str) -> Condition:
    """Parse what `--sla` demands, such as `p99<20ms` or `errors<1%`. Raises UsageError."""
    return parse_condition(text, "--sla", OBJECTIVE_EXAMPLES)


def failed_conditions(conditions: Iterable[Condition], summaries: Sequence[Summary]) -> list[str]:
    """A sentence for each condition that is true for a phase."""
    conditions = list(conditions)
    if conditions and not summaries:
        return ["nothing was measured"]
    return [
        f"{sentence} (phase {number}: {summary.load})" if len(summaries) > 1 else f"{sentence} ({summary.load})"
        for number, summary in enumerate(summaries, 1)
        for condition in conditions
        if (sentence := _failure(condition, summary))
    ]


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """Whether a phase fulfils an objective, and the measured value as text: `31 ms`, or `unknown`."""

    objective: Condition
    met: bool
    measured: str


def objective_results(objectives: Iterable[Condition], summary: Summary) -> list[ObjectiveResult]:
    """The result of each objective. One whose figure is unknown, or may be worse than is known, is not met."""
    return [_objective_result(objective, summary) for objective in objectives]


def missed_objectives(objectives: Sequence[Condition], summaries: Iterable[Summary]) -> list[str]:
    """A sentence for each objective that a phase does not fulfil."""
    return [
        f"{result.objective.figure} is {result.measured}, and should be {result.objective} ({summary.load})"
        for summary in summaries
        for result in objective_results(objectives, summary)
        if not result.met
    ]


def _objective_result(objective: Condition, summary: Summary) -> ObjectiveResult:
    value = _value(objective, summary)
    if value is None:
        return ObjectiveResult(objective, False, "unknown")
    met = OPERATORS[objective.operator](value, float(objective.limit * UNIT_SECONDS.get(objective.unit, 1)))
    if _is_lower_bound(objective, summary):
        met = met and ">" in objective.operator
        return ObjectiveResult(objective, met, f"at least {_text(value, objective.unit)}")
    return ObjectiveResult(objective, met, _text(value, objective.unit))


def _units(figure: str) -> tuple[str, ...]:
    """The units a figure may have; empty if there is no such figure."""
    if figure.removeprefix(SERVICE) in DURATIONS:
        return tuple(UNIT_SECONDS)
    return {"plan": ("%",), "throughput": ("/s",)}.get(figure, ("", "%") if figure in COUNTS else ())


def _failure(condition: Condition, summary: Summary) -> str:
    value, durations = _value(condition, summary), _durations(condition, summary)
    if value is None:
        why = "no request succeeded" if durations is None else "there are too few requests for it"
        return f"{condition.figure} is unknown because {why}, and so counts as {condition}"
    limit = condition.limit * UNIT_SECONDS.get(condition.unit, 1)
    if not OPERATORS[condition.operator](value, float(limit)):
        if not _is_lower_bound(condition, summary) or ">" not in condition.operator:
            return ""
        known = f"at least {_text(value, condition.unit)}"
        return f"{condition.figure} is {known}, as requests have no answer, and so counts as {condition}"
    return f"{condition.figure} is {_text(value, condition.unit)}, which is {condition}"


def _value(condition: Condition, summary: Summary) -> float | None:
    """In seconds, percent, requests, or requests per second."""
    figure = condition.figure
    if figure == "plan":
        return summary.plan_kept
    if figure == "throughput":
        return summary.throughput
    if figure in COUNTS:
        count, whole = {
            "errors": (summary.failed, summary.sent),
            "late": (summary.late, summary.planned),
            "unsent": (summary.unsent, summary.planned),
        }[figure]
        return 100 * count / (whole or 1) if condition.unit == "%" else count
    found: float | None = getattr(_durations(condition, summary), _field(condition), None)
    return found


def _durations(condition: Condition, summary: Summary) -> Percentiles | None:
    """The durations that the condition is about; None also if it is about something else."""
    if condition.unit not in UNIT_SECONDS:
        return None
    return summary.service if condition.figure.startswith(SERVICE) else summary.latency


def _is_lower_bound(condition: Condition, summary: Summary) -> bool:
    """Whether the measured duration is only known to be at least so long, as requests have no answer."""
    durations = _durations(condition, summary)
    return durations is not None and _field(condition) in durations.at_least


def _field(condition: Condition) -> str:
    return DURATIONS.get(condition.figure.removeprefix(SERVICE), "")


def _text(value: float, unit: str) -> str:
    """A value with enough digits to compare it with the limit: a duration in its unit, or in seconds from one on."""
    if unit in UNIT_SECONDS:
        unit = "s" if value >= 1 else unit
        return f"{value / float(UNIT_SECONDS[unit]):,.6g} {unit}"
    return f"{value:,.6g} %" if unit == "%" else f"{value:,.6g}{unit}"
