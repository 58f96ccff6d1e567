"""The findings of a page in words: the sentence at its top and the titles of its plots. Pure."""

from __future__ import annotations

from headrace.client.load.formatting import (
    bytes_text,
    change_text,
    counted,
    duration_text,
    number_text,
    rate_text,
    share_text,
)
from headrace.client.load.report import distribution
from headrace.client.load.report.differences import difference
from headrace.client.load.report.distribution import Percentiles
from headrace.client.load.report.page.figures import PARTS
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.summary import LATE_SECONDS, PLAN_KEPT_PERCENT, RATE_HELD_SHARE, Summary
from headrace.client.load.report.timeline import time_buckets

HIDDEN_RATIO = 1.5
"""A latency of more than this many times the service time is one that service time hides."""
SAME_PERCENT = 2.0
"""Smaller differences are reported as none."""


def headline(content: PageContent) -> str:
    """The main finding of all runs."""
    if not any(each.summary.latency for each in content.series):
        return "No request succeeded."
    if content.found is not None:
        return f"{content.found.sentence}."
    if len(content.runs) > 1:
        return " ".join(filter(None, (_compared(content, each) for each in content.best_phases))) or _different(content)
    (best,) = content.best_phases
    if content.phased:
        return f"Throughput was highest at {best.load}: {rate_text(best.summary.throughput)}, {_tail(best.summary)}."
    summary = best.summary
    if summary.rate_planned is None:
        return f"With {best.load}, the server answered {rate_text(summary.throughput)}, {_tail(summary)}."
    planned = rate_text(summary.rate_planned)
    if summary.plan_kept < PLAN_KEPT_PERCENT or summary.throughput < RATE_HELD_SHARE * summary.rate_planned:
        answered = f"{rate_text(summary.throughput)} were answered, {_tail(summary)}"
        return f"The plan of {planned} was not kept{_why(summary)}: {answered}."
    return f"The plan of {planned} was kept, {_tail(summary)}."


def search(content: PageContent) -> str:
    assert content.found is not None
    return content.found.sentence


def latency_histogram(content: PageContent) -> str:
    phrases = []
    for each in content.best_phases:
        bins = distribution.histogram(each.latencies)
        if bins:
            fullest = max(bins, key=lambda one: one.requests)
            whose = f" in {each.label}" if len(content.best_phases) > 1 else ""
            phrases.append(f"{duration_text(fullest.low)} to {duration_text(fullest.high)}{whose}")
    return f"Most common: {_listed(phrases)}"


def server_load(content: PageContent) -> str:
    loads = [load for each in content.series for load in each.outcome.server_loads]
    flight, resident = (max(getattr(load, name) for load in loads) for name in ("tickets_in_flight", "resident_bytes"))
    return f"Up to {counted(flight, 'ticket')} in flight, and {bytes_text(resident)} of memory"


def percentiles(content: PageContent) -> str:
    if len(content.runs) > 1:
        phrases = (
            f"{_at_least(each.summary.latency, 'p99')} in {each.label}"
            for each in content.best_phases
            if each.summary.latency
        )
        return f"p99 is {_listed(list(phrases))}"
    (best,) = content.best_phases
    summary = best.summary
    if summary.latency is None or summary.service is None:
        return "No request succeeded"
    for name in ("p99", "p99_9", "p95", "p90", "p50"):
        latency_value, service = getattr(summary.latency, name), getattr(summary.service, name)
        if latency_value is None or service is None:
            continue
        if latency_value > HIDDEN_RATIO * service and latency_value - service > LATE_SECONDS:
            label = name.replace("_", ".")
            figure = _at_least(summary.latency, name)
            return f"{label} is {figure}; service time would show {duration_text(service)}"
    at = f" at {best.load}" if content.phased else ""
    if summary.latency.p99 is None:
        return f"All requests took up to {_at_least(summary.latency, 'max')}{at}"
    return f"99 % of the requests took up to {_at_least(summary.latency, 'p99')}{at}"


def latency(content: PageContent) -> str:
    worst = max((each for each in content.timed if each.summary.latency), key=_maximum, default=None)
    failed = sum(each.summary.failed for each in content.timed)
    errors = f"; {counted(failed, 'request')} failed" if failed else ""
    if worst is None:
        return f"No request succeeded{errors}"
    grew = worst.summary.growth
    if len(content.series) == 1 and grew and grew.grew:
        return f"Latency grew from {duration_text(grew.first)} to {duration_text(grew.last)}{errors}"
    bucket = max(time_buckets(worst.outcome), key=lambda bucket: bucket.max or 0.0)
    moment = number_text(worst.offset + bucket.start + bucket.width / 2)
    name = f" of {worst.name}" if len(content.runs) > 1 else ""
    return f"The slowest request took {duration_text(_maximum(worst))}, {moment} s into the run{name}{errors}"


def rates(content: PageContent) -> str:
    opened = [each for each in content.timed if each.summary.rate_planned]
    missed = [each for each in opened if each.summary.throughput < RATE_HELD_SHARE * (each.summary.rate_planned or 0.0)]
    if not missed:
        kept = min(each.summary.plan_kept for each in opened)
        if kept < PLAN_KEPT_PERCENT:
            return f"{share_text(kept)} % of the plan was sent on time"
        return "The planned rate was sent and answered"
    phrases = (
        f"{rate_text(each.summary.throughput)} of {rate_text(each.summary.rate_planned or 0.0)} planned"
        + (f" ({each.label})" if len(opened) > 1 else "")
        for each in missed
    )
    return f"Answered: {_listed(list(phrases))}"


def sweep(content: PageContent) -> str:
    phrases = (
        f"{rate_text(each.summary.throughput)} at {each.load}" + (f" ({each.name})" if len(content.runs) > 1 else "")
        for each in content.best_phases
        if each.closed
    )
    return f"Highest throughput: {_listed(list(phrases))}"


def time_breakdown(content: PageContent) -> str:
    compared = (
        content.best_phases if len(content.runs) > 1 else [content.series[0], content.series[-1]][: len(content.series)]
    )
    phrases = [(each, *_largest(each)) for each in compared if each.summary.breakdown]
    names = {name for _, name, _ in phrases}
    preposition = "in" if len(content.runs) > 1 else "at"
    if len(phrases) == 1 and not content.phased:
        return f"{names.pop().capitalize()} is the largest part of the time: {phrases[0][2]:.0f} %"
    if len(names) == 1:
        shares = _listed([f"{share:.0f} % {preposition} {each.label}" for each, _, share in phrases])
        return f"{names.pop().capitalize()} is the largest part of the time: {shares}"
    parts = [f"{name} {preposition} {each.label} ({share:.0f} %)" for each, name, share in phrases]
    return f"Largest part of the time: {_listed(parts)}"


def _largest(each: Series) -> tuple[str, float]:
    parts = each.summary.breakdown
    assert parts is not None
    known = {name: getattr(parts, name) or 0.0 for name in PARTS}
    name = max(known, key=lambda name: known[name])
    label = "network and server" if name == "network" and parts.queue is None else PARTS[name]
    return label, 100 * known[name] / parts.total if parts.total else 0.0


def _why(summary: Summary) -> str:
    """The main reason for which requests were late or unsent, if they were."""
    reasons = {
        "window": "the window was full",
        "connection": "there was no connection",
        "network": "the connection took no more data",
        "machine": "the client's machine was busy with other work",
        "processor": "this client was too slow",
    }
    causes = summary.delays.notable() if summary.plan_kept < PLAN_KEPT_PERCENT else []
    return f", as {reasons[causes[0]]}" if causes else ""


def _tail(summary: Summary) -> str:
    times = summary.latency
    if times is None:
        return "none successfully"
    if times.p50 is None or times.p99 is None:
        return f"all within {_at_least(times, 'max')}"
    return f"half within {_at_least(times, 'p50')} and 99 % within {_at_least(times, 'p99')}"


def _at_least(times: Percentiles, name: str) -> str:
    """A figure of latency, which is a lower bound if requests have no answer; `-` if there are too few of them."""
    seconds: float | None = getattr(times, name)
    if seconds is None:
        return "-"
    return f"{'at least ' if name in times.at_least else ''}{duration_text(seconds)}"


def _compared(content: PageContent, each: Series) -> str:
    """A run compared with the first, at its best load."""
    base, row = content.baseline(each), content.row(each)
    if base is None or row is None:
        return ""
    first, other = row.summaries[0], row.summaries[each.run]
    if first is None or other is None or not first.latency or not other.latency:
        return ""
    slower = difference(first.latency.p99, other.latency.p99) or 0.0
    faster = difference(first.throughput, other.throughput) or 0.0
    times = f"p99 is {_than(slower, 'higher', 'lower', row.differs(each.run, 'p99'))}"
    rates = f"throughput is {_than(faster, 'higher', 'lower', row.differs(each.run, 'throughput'))}"
    at = f" at {row.load}" if len(content.rows) > 1 else ""
    return f"{each.name} against {base.name}{at}: {times}, {rates}."


def _than(percent: float, more: str, less: str, differs: bool | None) -> str:
    if abs(percent) < SAME_PERCENT:
        return "the same"
    noise = " (within noise)" if differs is False else ""
    return f"{change_text(abs(percent)).lstrip('+')} {more if percent > 0 else less}{noise}"


def _different(content: PageContent) -> str:
    return f"{len(content.runs)} runs without a common load."


def _maximum(each: Series) -> float:
    """Of the requests that were answered, which the plot shows."""
    return each.summary.answered.max if each.summary.answered else 0.0


def _listed(texts: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
