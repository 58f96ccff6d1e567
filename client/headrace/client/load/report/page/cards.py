"""The big numbers at the top of a page, for the best phase of each run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.formatting import counted, ms_text, number_text, rate_text, share_text
from headrace.client.load.report.page.markup import change, swatch, text
from headrace.client.load.report.page.series import PageContent, Series
from headrace.client.load.report.summary import PLAN_KEPT_PERCENT

Value = tuple[str, str]
"""The number, and the text below it."""


def cards(content: PageContent) -> str:
    """The numbers as HTML."""
    heads = content.best_phases
    values_by_card = {
        "Throughput": [_throughput(content, each) for each in heads],
        "p50 latency": [_percentile(content, each, "p50") for each in heads],
        "p99 latency": [_percentile(content, each, "p99") for each in heads],
    }
    if any(each.summary.rate_planned for each in heads):
        values_by_card["Plan kept"] = [_plan(content, each) for each in heads]
    values_by_card["Errors"] = [_errors(content, each) for each in heads]
    inside = "".join(_card(name, heads, values) for name, values in values_by_card.items())
    return f'<section class="numbers" aria-label="Key figures">{inside}</section>'


def _card(name: str, heads: Sequence[Series], values: Sequence[Value]) -> str:
    several = len(heads) > 1
    rows = [
        f'<span class="number{" small" if several else ""}">{swatch(each.colour) if several else ""}{number}</span>'
        f'<span class="beside">{beside}</span>'
        for each, (number, beside) in zip(heads, values, strict=True)
    ]
    return f'<div class="card"><p class="kicker">{name}</p>{"".join(rows)}</div>'


def _throughput(content: PageContent, each: Series) -> Value:
    base, summary = content.baseline(each), each.summary
    number = f"{number_text(summary.throughput)}<small>/s</small>"
    if base:
        number += f" {change(base.summary.throughput, summary.throughput, 'more')}"
    if content.phased:
        return number, f"at {text(each.load)}"
    return number, f"of {rate_text(summary.rate_planned)} planned" if summary.rate_planned else text(each.load)


def _percentile(content: PageContent, each: Series, name: str) -> Value:
    latency, service, base = each.summary.latency, each.summary.service, content.baseline(each)
    if latency is None or service is None:
        return "-", "no request succeeded"
    if getattr(latency, name) is None:
        return "-", "of too few requests"
    bound = "≥ " if name in latency.at_least else ""
    number = f"{bound}{ms_text(getattr(latency, name))} <small>ms</small>"
    if base and base.summary.latency:
        number += f" {change(getattr(base.summary.latency, name), getattr(latency, name), 'less')}"
    at = f"at {text(each.load)}" if content.phased else f"service time {ms_text(getattr(service, name))} ms"
    return number, at


def _plan(content: PageContent, each: Series) -> Value:
    summary = each.summary
    if summary.rate_planned is None:
        return "-", "a closed loop has no plan"
    kind = ' class="bad"' if summary.plan_kept < PLAN_KEPT_PERCENT else ""
    late = f"{summary.late:,} late, {summary.unsent:,} never sent"
    return f"<span{kind}>{share_text(summary.plan_kept)}</span> <small>%</small>", late


def _errors(content: PageContent, each: Series) -> Value:
    """The errors of all phases of a run, not only of its best."""
    summaries = [other.summary for other in content.series if other.run == each.run]
    failed, sent = sum(summary.failed for summary in summaries), sum(summary.sent for summary in summaries)
    kind = ' class="bad"' if failed else ""
    return f"<span{kind}>{failed:,}</span>", f"of {counted(sent, 'request')}"
