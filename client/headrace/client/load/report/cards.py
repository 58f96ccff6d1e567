"""The big numbers of a page, for each run those of its best phase. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.report.formats import counted, ms_text, number_text, rate_text, share_text
from headrace.client.load.report.markup import change, swatch, text
from headrace.client.load.report.series import Series, Shown
from headrace.client.load.report.summary import KEPT

Value = tuple[str, str]
"""The number, and what stands below it."""


def cards(what: Shown) -> str:
    heads = what.headlines
    told = {
        "Throughput": [_throughput(what, each) for each in heads],
        "p50 latency": [_percentile(what, each, "p50") for each in heads],
        "p99 latency": [_percentile(what, each, "p99") for each in heads],
    }
    if any(each.summary.rate_planned for each in heads):
        told["Plan kept"] = [_plan(what, each) for each in heads]
    told["Errors"] = [_errors(what, each) for each in heads]
    inside = "".join(_card(name, heads, values) for name, values in told.items())
    return f'<section class="numbers" aria-label="Key figures">{inside}</section>'


def _card(name: str, heads: Sequence[Series], values: Sequence[Value]) -> str:
    several = len(heads) > 1
    rows = [
        f'<span class="number{" small" if several else ""}">{swatch(each.colour) if several else ""}{number}</span>'
        f'<span class="beside">{beside}</span>'
        for each, (number, beside) in zip(heads, values, strict=True)
    ]
    return f'<div class="card"><p class="kicker">{name}</p>{"".join(rows)}</div>'


def _throughput(what: Shown, each: Series) -> Value:
    base, summary = what.base(each), each.summary
    number = f"{number_text(summary.throughput)}<small>/s</small>"
    if base:
        number += f" {change(base.summary.throughput, summary.throughput, 'more')}"
    if what.phased:
        return number, f"at {text(each.load)}"
    return number, f"of {rate_text(summary.rate_planned)} planned" if summary.rate_planned else text(each.load)


def _percentile(what: Shown, each: Series, name: str) -> Value:
    latency, service, base = each.summary.latency, each.summary.service, what.base(each)
    if latency is None or service is None:
        return "-", "nothing succeeded"
    number = f"{ms_text(getattr(latency, name))} <small>ms</small>"
    if base and base.summary.latency:
        number += f" {change(getattr(base.summary.latency, name), getattr(latency, name), 'less')}"
    at = f"at {text(each.load)}" if what.phased else f"service time {ms_text(getattr(service, name))} ms"
    return number, at


def _plan(what: Shown, each: Series) -> Value:
    summary = each.summary
    if summary.rate_planned is None:
        return "-", "closed loop: no plan"
    kind = ' class="bad"' if summary.plan_kept < KEPT else ""
    late = f"{summary.late:,} late, {summary.unsent:,} never sent"
    return f"<span{kind}>{share_text(summary.plan_kept)}</span> <small>%</small>", late


def _errors(what: Shown, each: Series) -> Value:
    """Of all phases: an error is not made good by a better one."""
    ours = [other.summary for other in what.series if other.run == each.run]
    failed, sent = sum(summary.failed for summary in ours), sum(summary.sent for summary in ours)
    kind = ' class="bad"' if failed else ""
    return f"<span{kind}>{failed:,}</span>", f"of {counted(sent, 'request')}"
