"""The big numbers at the top of a page, for the best phase of each run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.formatting import counted, duration_text, number_text, rate_text, share_text, split_duration
from headrace.client.load.report.conditions import Condition, objective_results
from headrace.client.load.report.page.markup import change, sentence, swatch, text
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
        differs = content.differs(each, "throughput")
        number += f" {change(base.summary.throughput, summary.throughput, 'more', differs)}"
    if content.phased:
        return number, f"at {text(each.load)}"
    return number, f"of {rate_text(summary.rate_planned)} planned" if summary.rate_planned else text(each.load)


def _percentile(content: PageContent, each: Series, name: str) -> Value:
    latency, service, base = each.summary.latency, each.summary.service, content.baseline(each)
    if latency is None or service is None:
        return "-", "no request succeeded"
    if getattr(latency, name) is None:
        return "-", "of too few requests"
    digits, unit = split_duration(getattr(latency, name))
    number = f"{'≥' if name in latency.at_least else ''}{digits} <small>{unit}</small>"
    if base and base.summary.latency:
        differs = content.differs(each, name)
        number += f" {change(getattr(base.summary.latency, name), getattr(latency, name), 'less', differs)}"
    if content.phased:
        return number, f"at {text(each.load)}"
    served: float | None = getattr(service, name)
    return number, "" if served is None else f"service time {duration_text(served)}"


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
    failed = sum(summary.failed for summary in summaries)
    ended = failed + sum(summary.ok for summary in summaries)
    kind = ' class="bad"' if failed else ""
    return f"<span{kind}>{failed:,}</span>", f"of {counted(ended, 'request')}"


def objective_list(content: PageContent) -> str:
    """What `--sla` demands, and where it is not fulfilled; empty without objectives."""
    judged = content.best_phases if content.found is not None else content.side_by_side
    items = "".join(_objective(objective, judged) for objective in content.objectives if judged)
    if not items:
        return ""
    return f'<section class="card"><p class="kicker">Objectives</p><ul class="objectives">{items}</ul></section>'


def _objective(objective: Condition, judged: Sequence[Series]) -> str:
    results = [(each, result) for each in judged for result in objective_results([objective], each.summary)]
    missed = [(each, result) for each, result in results if not result.met]
    verdict = '<b class="bad">missed</b>' if missed else '<b class="good">met</b>'
    several = len(results) > 1
    shown = missed if missed else results[: 0 if several else 1]
    each_text = "; ".join(
        f"{sentence(result.measured)}{f' in {text(each.label)}' if several else ''}" for each, result in shown
    )
    demand = sentence(f"{objective.figure} {objective}")
    return f"<li>{verdict} <span>{demand}{f': {each_text}' if each_text else ''}</span></li>"
