"""`--fail-if 'p99>20ms'`: what makes a run a failure, for CI. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from headrace.client.load.report.summary import Summary
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

SECONDS = {"us": Decimal("1e-6"), "µs": Decimal("1e-6"), "ms": Decimal("1e-3"), "s": Decimal(1)}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
DURATIONS = {name: name.replace(".", "_") for name in ("p50", "p90", "p95", "p99", "p99.9", "max", "mean", "min")}
SERVICE = "service."
"""Before the name of a duration: from when a request was sent, instead of when it was due."""
COUNTS = ("errors", "late", "unsent")
KNOWN = f"{', '.join(DURATIONS)} (also as service.p99), {', '.join(COUNTS)}, plan, throughput"
EXAMPLES = "p99>20ms, errors>0, errors>1%, plan<99%, throughput<500/s"
SYNTAX = re.compile(r"\s*([a-z0-9._]+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s|%|/s|)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """`limit` as it was written, in `unit`."""

    figure: str
    operator: str
    limit: Decimal
    unit: str

    def __str__(self) -> str:
        space = " " if self.unit in SECONDS or self.unit == "%" else ""
        return f"{self.operator} {self.limit:f}{space}{self.unit}"


def parse_condition(text: str) -> Condition:
    """Raises UsageError."""
    found = SYNTAX.fullmatch(text)
    if found is None:
        raise UsageError(f"--fail-if {quote(text)} cannot be read; write it as in {EXAMPLES}")
    figure, relation, limit, unit = found.groups()
    units = _units(figure)
    if not units:
        raise UsageError(f"--fail-if {quote(text)}: there is no figure {quote(figure)}; there are {KNOWN}")
    if unit not in units:
        known = " or ".join(each or "no unit" for each in units)
        raise UsageError(f"--fail-if {quote(text)}: the unit of {figure} is {known}")
    return Condition(figure, relation, Decimal(limit), unit)


def broken(conditions: Iterable[Condition], summaries: Sequence[Summary]) -> list[str]:
    """A sentence for each condition that is true of a phase, which is what must not be."""
    conditions = list(conditions)
    if conditions and not summaries:
        return ["nothing was measured"]
    return [
        f"{sentence} (phase {number}: {summary.load})" if len(summaries) > 1 else f"{sentence} ({summary.load})"
        for number, summary in enumerate(summaries, 1)
        for condition in conditions
        if (sentence := _broken(condition, summary))
    ]


def _units(figure: str) -> tuple[str, ...]:
    """In which a figure may be said; none of what is no figure."""
    if figure.removeprefix(SERVICE) in DURATIONS:
        return tuple(SECONDS)
    return {"plan": ("%",), "throughput": ("/s",)}.get(figure, ("", "%") if figure in COUNTS else ())


def _broken(condition: Condition, summary: Summary) -> str:
    value = _value(condition, summary)
    if value is None:
        return f"there is no {condition.figure}, since no request succeeded, and so it may be {condition}"
    limit = condition.limit * SECONDS.get(condition.unit, 1)
    if not OPERATORS[condition.operator](value, float(limit)):
        return ""
    return f"{condition.figure} is {_text(value, condition.unit)}, which is {condition}"


def _value(condition: Condition, summary: Summary) -> float | None:
    """In seconds, percent, requests or requests a second."""
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
    durations = summary.service if figure.startswith(SERVICE) else summary.latency
    return None if durations is None else getattr(durations, DURATIONS[figure.removeprefix(SERVICE)])


def _text(value: float, unit: str) -> str:
    """In the unit of the condition, and exact enough to be compared with it."""
    if unit in SECONDS:
        return f"{value / float(SECONDS[unit]):,.6g} {unit}"
    return f"{value:,.6g} %" if unit == "%" else f"{value:,.6g}{unit}"
