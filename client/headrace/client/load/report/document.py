"""The JSON that `headrace report --json` prints, described by `report.schema.json` beside this file. Pure.

Durations are in milliseconds and end in `_ms`, rates end in `_per_s`, shares in `_percent`. Missing values are null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from headrace.client.load.planning.phases import Load, OpenLoop
from headrace.client.load.record.run import Outcome, Run, RunSettings
from headrace.client.load.report.breakdown import TimeBreakdown
from headrace.client.load.report.comparability import unlike
from headrace.client.load.report.confidence import COMPARED_FIGURES
from headrace.client.load.report.delays import Delays
from headrace.client.load.report.differences import comparison_rows, difference
from headrace.client.load.report.distribution import FIGURES, Percentiles
from headrace.client.load.report.error_times import error_times
from headrace.client.load.report.rate_search import FoundRate, Judged, found_rate
from headrace.client.load.report.summary import Growth, Summary, code_name, load_text, summarise

VERSION = 1
Document = dict[str, Any]


def document(runs: Sequence[Run]) -> Document:
    """The report of one run, or of several compared with the first."""
    return {"headrace-report": VERSION, "runs": [_run(run, runs[0]) for run in runs], "differences": _differences(runs)}


def _run(run: Run, first: Run) -> Document:
    phases = [_phase(outcome, summarise(outcome)) for outcome in run.outcomes]
    return {
        "name": run.name,
        "settings": _settings(run.settings),
        "phases": phases,
        "search": _search(found_rate(run)),
        "unlike_first": [] if run is first else unlike(first, run),
    }


def _search(found: FoundRate | None) -> Document | None:
    if found is None:
        return None
    return {
        "condition": found.condition.text,
        "holds_per_s": found.bounds.holds,
        "fails_per_s": found.bounds.fails,
        "trials": list(map(_trial, found.judged)),
    }


def _trial(judged: Judged) -> Document:
    value = judged.value if math.isfinite(judged.value) else None
    return {
        "rate_per_s": judged.trial.rate,
        "holds": judged.trial.holds,
        "value_ms": _ms(value),
        "reason": judged.reason,
    }


def _settings(settings: RunSettings) -> Document:
    document = asdict(settings)
    timeout = document.pop("timeout")
    return document | {
        "timeout_ms": _ms(timeout),
        "inputs": list(settings.inputs),
        "outputs": None if settings.outputs is None else list(settings.outputs),
        "keep": list(settings.keep),
    }


def _phase(outcome: Outcome, summary: Summary) -> Document:
    phase = outcome.phase
    return {
        "load": _load(phase.load),
        "warmup_ms": _ms(phase.warmup),
        "duration_ms": _ms(phase.duration),
        "count": phase.count,
        "interrupted": summary.interrupted,
        "elapsed_ms": _ms(summary.elapsed),
        "planned": summary.planned,
        "sent": summary.sent,
        "unsent": summary.unsent,
        "late": summary.late,
        "delays": _delays(summary.delays),
        "plan_kept_percent": summary.plan_kept,
        "ok": summary.ok,
        "errors": _errors(outcome),
        "no_answer": summary.no_answer,
        "rate_planned_per_s": summary.rate_planned,
        "rate_sent_per_s": summary.rate_sent,
        "throughput_per_s": summary.throughput,
        "latency": _percentiles(summary.latency),
        "answered": _percentiles(summary.answered),
        "service": _percentiles(summary.service),
        "where": _breakdown(summary.breakdown),
        "where_slowest": _breakdown(summary.slowest),
        "growth": _growth(summary.growth),
        "warnings": summary.warnings,
    }


def _load(load: Load) -> Document:
    text = load_text(load)
    if isinstance(load, OpenLoop):
        rates = {"first_per_s": load.first, "last_per_s": load.last}
        return {"kind": "open", "text": text, **rates, "arrivals": load.arrivals}
    return {"kind": "closed", "text": text, "concurrency": load.concurrency}


def _delays(delays: Delays) -> Document:
    return {
        cause: {"requests": delay.requests, "total_ms": _ms(delay.seconds)} for cause, delay in delays._asdict().items()
    }


def _errors(outcome: Outcome) -> list[Document]:
    return [
        {
            "code": code_name(code),
            "count": sum(times.counts),
            "first_message": outcome.messages.get(code),
            "first_ms": _ms(times.first),
            "last_ms": _ms(times.last),
            "counts": list(times.counts),
        }
        for code, times in error_times(outcome).items()
    ]


def _percentiles(durations: Percentiles | None) -> Document | None:
    if durations is None:
        return None
    figures = {f"{name}_ms": _ms(getattr(durations, name)) for name in FIGURES}
    return figures | {"at_least": [f"{name}_ms" for name in FIGURES if name in durations.at_least]}


def _breakdown(parts: TimeBreakdown | None) -> Document | None:
    return None if parts is None else {f"{name}_ms": _ms(time) for name, time in asdict(parts).items()}


def _growth(growth: Growth | None) -> Document | None:
    if growth is None:
        return None
    return {"first_ms": _ms(growth.first), "last_ms": _ms(growth.last), "grew": growth.grew}


def _differences(runs: Sequence[Run]) -> list[Document]:
    """Each phase of each run after the first, compared with the first run's phase of the same load."""
    return [
        {"run": number, "load": row.load}
        | _difference(row.summaries[0], other)
        | {"beyond_noise": {f"{figure}_differs": row.differs(number, figure) for figure in COMPARED_FIGURES}}
        for row in (comparison_rows(runs) if len(runs) > 1 else [])
        for number, other in enumerate(row.summaries[1:], 1)
        if other is not None and row.summaries[0] is not None
    ]


def _difference(first: Summary, other: Summary) -> Document:
    return {
        "throughput_percent": difference(first.throughput, other.throughput),
        "latency": _percentile_differences(first.latency, other.latency),
        "service": _percentile_differences(first.service, other.service),
    }


def _percentile_differences(first: Percentiles | None, other: Percentiles | None) -> Document | None:
    if first is None or other is None:
        return None
    return {f"{name}_percent": difference(getattr(first, name), getattr(other, name)) for name in FIGURES}


def _ms(seconds: float | None) -> float | None:
    """Milliseconds, rounded to nanoseconds, beyond which there is only rounding error of floats."""
    return None if seconds is None else round(seconds * 1e3, 6)
