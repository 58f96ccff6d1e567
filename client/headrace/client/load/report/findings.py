"""What a page says in words: the sentence at its top, and the titles of its plots. Pure."""

from __future__ import annotations

from headrace.client.load.report.differences import difference
from headrace.client.load.report.formats import change_text, counted, duration_text, number_text, rate_text, share_text
from headrace.client.load.report.series import Series, Shown
from headrace.client.load.report.summary import HELD, KEPT, LATE, Summary
from headrace.client.load.report.timeline import over_time

HIDDEN = 1.5
"""Times the service time: a latency above it is one that service time does not show."""
SAME = 2.0
"""Percent. A difference below it is not worth a sentence."""


def whole(shown: Shown) -> str:
    """What came of it all."""
    if not any(each.summary.latency for each in shown.series):
        return "No request succeeded."
    if len(shown.runs) > 1:
        return " ".join(filter(None, (_compared(shown, each) for each in shown.headlines))) or _different(shown)
    (best,) = shown.headlines
    if shown.phased:
        return f"Throughput was highest at {best.load}: {rate_text(best.summary.throughput)}, {_tail(best.summary)}."
    summary = best.summary
    if summary.rate_planned is None:
        return f"With {best.load} the server answered {rate_text(summary.throughput)}, {_tail(summary)}."
    planned = rate_text(summary.rate_planned)
    if summary.plan_kept < KEPT or summary.throughput < HELD * summary.rate_planned:
        return f"The plan of {planned} did not hold: {rate_text(summary.throughput)} were answered, {_tail(summary)}."
    return f"The plan of {planned} held, {_tail(summary)}."


def percentiles(shown: Shown) -> str:
    if len(shown.runs) > 1:
        told = (
            f"{duration_text(each.summary.latency.p99)} in {each.label}"
            for each in shown.headlines
            if each.summary.latency
        )
        return f"p99 is {_listed(list(told))}"
    (best,) = shown.headlines
    summary = best.summary
    if summary.latency is None or summary.service is None:
        return "No request succeeded"
    for name in ("p99", "p99_9", "p95", "p90", "p50"):
        corrected, service = getattr(summary.latency, name), getattr(summary.service, name)
        if corrected > HIDDEN * service and corrected - service > LATE:
            called = name.replace("_", ".")
            return f"{called} is {duration_text(corrected)}; service time would say {duration_text(service)}"
    at = f" at {best.load}" if shown.phased else ""
    return f"99 % of the requests took up to {duration_text(summary.latency.p99)}{at}"


def latency(shown: Shown) -> str:
    worst = max((each for each in shown.series if each.summary.latency), key=_maximum, default=None)
    failed = sum(each.summary.failed for each in shown.series)
    errors = f"; {counted(failed, 'request')} failed" if failed else ""
    if worst is None:
        return f"Nothing was answered{errors}"
    grew = worst.summary.growth
    if len(shown.series) == 1 and grew and grew.grew:
        return f"Latency grew from {duration_text(grew.first)} to {duration_text(grew.last)}{errors}"
    bucket = max(over_time(worst.outcome), key=lambda bucket: bucket.max or 0.0)
    moment = number_text(worst.offset + bucket.start + bucket.width / 2)
    name = f" of {worst.name}" if len(shown.runs) > 1 else ""
    return f"The slowest took {duration_text(_maximum(worst))}, {moment} s into the run{name}{errors}"


def rates(shown: Shown) -> str:
    opened = [each for each in shown.series if each.summary.rate_planned]
    missed = [each for each in opened if each.summary.throughput < HELD * (each.summary.rate_planned or 0.0)]
    if not missed:
        kept = min(each.summary.plan_kept for each in opened)
        if kept < KEPT:
            return f"{share_text(kept)} % of the plan was sent on time"
        return "The planned rate was sent and answered"
    told = (
        f"{rate_text(each.summary.throughput)} of {rate_text(each.summary.rate_planned or 0.0)} planned"
        + (f" ({each.label})" if len(opened) > 1 else "")
        for each in missed
    )
    return f"Answered: {_listed(list(told))}"


def sweep(shown: Shown) -> str:
    told = (
        f"{rate_text(each.summary.throughput)} at {each.load}" + (f" ({each.name})" if len(shown.runs) > 1 else "")
        for each in shown.headlines
        if each.closed
    )
    return f"The most throughput: {_listed(list(told))}"


def where(shown: Shown) -> str:
    compared = shown.headlines if len(shown.runs) > 1 else [shown.series[0], shown.series[-1]][: len(shown.series)]
    told = [(each, *_largest(each)) for each in compared if each.summary.where]
    names = {name for _, name, _ in told}
    preposition = "in" if len(shown.runs) > 1 else "at"
    if len(told) == 1 and not shown.phased:
        return f"{names.pop().capitalize()} is the largest part of the time: {told[0][2]:.0f} %"
    if len(names) == 1:
        shares = _listed([f"{share:.0f} % {preposition} {each.label}" for each, _, share in told])
        return f"{names.pop().capitalize()} is the largest part of the time: {shares}"
    parts = [f"{name} {preposition} {each.label} ({share:.0f} %)" for each, name, share in told]
    return f"The largest part: {_listed(parts)}"


def _largest(each: Series) -> tuple[str, float]:
    parts = each.summary.where
    assert parts is not None
    known = {name: getattr(parts, name) or 0.0 for name in ("client", "network", "queue", "inference")}
    name = max(known, key=lambda name: known[name])
    called = "network and server" if name == "network" and parts.queue is None else name
    return called, 100 * known[name] / parts.total if parts.total else 0.0


def _tail(summary: Summary) -> str:
    times = summary.latency
    return (
        f"half within {duration_text(times.p50)} and 99 % within {duration_text(times.p99)}"
        if times
        else "none in time"
    )


def _compared(shown: Shown, each: Series) -> str:
    """One run beside the first, at its best load."""
    base = shown.base(each)
    if base is None or not each.summary.latency or not base.summary.latency:
        return ""
    slower = difference(base.summary.latency.p99, each.summary.latency.p99) or 0.0
    faster = difference(base.summary.throughput, each.summary.throughput) or 0.0
    times = f"p99 is {_than(slower, 'higher', 'lower')}"
    at = f" at {each.load}" if shown.phased else ""
    return f"{each.name} against {base.name}{at}: {times}, throughput is {_than(faster, 'higher', 'lower')}."


def _than(percent: float, more: str, less: str) -> str:
    if abs(percent) < SAME:
        return "the same"
    return f"{change_text(abs(percent)).lstrip('+')} {more if percent > 0 else less}"


def _different(shown: Shown) -> str:
    return f"{len(shown.runs)} runs that share no load."


def _maximum(each: Series) -> float:
    return each.summary.latency.max if each.summary.latency else 0.0


def _listed(texts: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
