"""The JSON that `headrace report --json` prints: `report.schema.json` beside this file describes it. Pure.

Durations are milliseconds and end in `_ms`, rates `_per_s`, shares `_percent`. What does not exist is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from headrace.client.load.report.differences import difference, rows
from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.summary import Growth, Summary, Where, code_name, load_text, summarise
from headrace.client.load.run import Load, OpenLoop, Outcome, Run, Settings

VERSION = 1
DURATIONS = tuple(field.name for field in fields(Percentiles))

Document = dict[str, Any]


def document(runs: Sequence[Run]) -> Document:
    return {"headrace-report": VERSION, "runs": list(map(_run, runs)), "differences": _differences(runs)}


def _run(run: Run) -> Document:
    phases = [_phase(outcome, summarise(outcome)) for outcome in run.outcomes]
    return {"name": run.name, "settings": _settings(run.settings), "phases": phases}


def _settings(settings: Settings) -> Document:
    said = asdict(settings)
    timeout = said.pop("timeout")
    return said | {
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
        "no_room": summary.no_room,
        "plan_kept_percent": summary.plan_kept,
        "ok": summary.ok,
        "errors": _errors(outcome, summary),
        "no_answer": summary.no_answer,
        "rate_planned_per_s": summary.rate_planned,
        "rate_sent_per_s": summary.rate_sent,
        "throughput_per_s": summary.throughput,
        "latency": _percentiles(summary.latency),
        "service": _percentiles(summary.service),
        "where": _where(summary.where),
        "where_slowest": _where(summary.slowest),
        "growth": _growth(summary.growth),
        "warnings": summary.warnings,
    }


def _load(load: Load) -> Document:
    text = load_text(load)
    if isinstance(load, OpenLoop):
        rates = {"first_per_s": load.first, "last_per_s": load.last}
        return {"kind": "open", "text": text, **rates, "arrivals": load.arrivals}
    return {"kind": "closed", "text": text, "concurrency": load.concurrency}


def _errors(outcome: Outcome, summary: Summary) -> list[Document]:
    messages = {code_name(code): message for code, message in outcome.messages.items()}
    return [{"code": code, "count": n, "first_message": messages.get(code)} for code, n in summary.errors.items()]


def _percentiles(durations: Percentiles | None) -> Document | None:
    return None if durations is None else {f"{name}_ms": _ms(getattr(durations, name)) for name in DURATIONS}


def _where(where: Where | None) -> Document | None:
    return None if where is None else {f"{name}_ms": _ms(time) for name, time in asdict(where).items()}


def _growth(growth: Growth | None) -> Document | None:
    if growth is None:
        return None
    return {"first_ms": _ms(growth.first), "last_ms": _ms(growth.last), "grew": growth.grew}


def _differences(runs: Sequence[Run]) -> list[Document]:
    """Each phase of each run after the first, against the phase of the first that had the same load."""
    return [
        {"run": number, "load": row.load} | _difference(row.summaries[0], other)
        for row in (rows(runs) if len(runs) > 1 else [])
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
    return {f"{name}_percent": difference(getattr(first, name), getattr(other, name)) for name in DURATIONS}


def _ms(seconds: float | None) -> float | None:
    """To the nanosecond, since what is behind that is noise of floats."""
    return None if seconds is None else round(seconds * 1e3, 6)
