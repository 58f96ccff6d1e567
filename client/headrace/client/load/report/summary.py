"""The figures of a phase: what was planned, what came of it, how long requests took, and where the time went. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.client.load.formatting import counted, duration_text, number_text, rate_text, share_text
from headrace.client.load.planning.phases import Load, OpenLoop
from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import NO_ANSWER, Samples
from headrace.client.load.report.breakdown import TimeBreakdown, breakdown, slowest
from headrace.client.load.report.chunked import due_times, largest, latencies, service_times, split_at, successes
from headrace.client.load.report.delays import Cause, Delays, delays, is_late, unanswered_waits
from headrace.client.load.report.distribution import Percentiles, joined, median, percentiles, quantiles
from headrace.client.load.report.error_times import error_times
from headrace.client.load.report.plan_span import plan_span
from headrace.client.terminal.printing import printable
from headrace.wire.errors import Code, quote

LATE_SECONDS = 1e-3
"""A request that is sent more than this after it was due is late ..."""
LATE_SHARE = 0.1
"""... unless requests are so far apart that it does not matter: then the limit is this share of their mean distance."""
PLAN_KEPT_PERCENT = 99.0
"""A phase that keeps less of its plan has not measured that plan."""
RATE_HELD_SHARE = 0.98
"""A throughput below this share of the planned rate did not hold it, if something else indicates that as well."""
GROWTH_FACTOR = 2.0
"""Latency has grown if it is over this many times what it was, and the difference is more than LATE_SECONDS."""
MIN_GROWTH_SAMPLES = 50
OTHER_CODES = {2: "UNKNOWN", 6: "ALREADY_EXISTS", 10: "ABORTED", 11: "OUT_OF_RANGE", 15: "DATA_LOSS"}
"""The gRPC codes that Headrace servers do not use."""
CODES = {code.value: code.name for code in Code} | OTHER_CODES
MAX_MESSAGE_CHARACTERS = 200
"""How much of a server's message a warning quotes."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The median latencies of the first and of the last fifth of the requests, in seconds."""

    first: float
    last: float

    @property
    def grew(self) -> bool:
        return self.last > GROWTH_FACTOR * self.first and self.last - self.first > LATE_SECONDS


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a phase. Times are in seconds, and None if nothing succeeded; rates are per second."""

    load: str
    interrupted: bool
    elapsed: float
    planned: int
    sent: int
    """Requests that left this client, whether they were answered or not."""
    unsent: int
    """Requests that never left this client."""
    late: int
    """Requests that were sent late."""
    delays: Delays
    """Why requests were late or unsent."""
    plan_kept: float
    """Percentage of the planned requests that were sent on time; 0 if none was planned."""
    ok: int
    errors: dict[str, int]
    """The number of failures by the name of their code."""
    no_answer: int
    rate_planned: float | None
    """None in a closed loop, which has no plan."""
    rate_sent: float
    throughput: float
    latency: Percentiles | None
    """From when a request was due. Requests without an answer count as at least the time that they waited for one."""
    answered: Percentiles | None
    """The latency of the successes alone."""
    service: Percentiles | None
    """From when a request was sent, of the successes."""
    breakdown: TimeBreakdown | None
    """Of all successes."""
    slowest: TimeBreakdown | None
    """Of the slowest hundredth of them."""
    growth: Growth | None
    """None if there are fewer successes than MIN_GROWTH_SAMPLES."""
    warnings: list[str]
    """What the reader must know about this measurement, as sentences without a full stop."""

    @property
    def failed(self) -> int:
        """Requests that did not succeed, without those that were never taken up."""
        return sum(self.errors.values()) + self.no_answer


def summarise(outcome: Outcome) -> Summary:
    """Compute the figures and the warnings of a phase."""
    load, totals = outcome.phase.load, _totals(outcome)
    answered = latencies(outcome.samples)
    span = plan_span(outcome)
    summary = Summary(
        load=load_text(load),
        interrupted=outcome.interrupted,
        elapsed=outcome.elapsed,
        planned=outcome.planned,
        sent=totals.sent,
        unsent=outcome.unsent + outcome.samples.count - totals.sent,
        late=totals.late,
        delays=delays(outcome, late_after(load)),
        plan_kept=min(100.0, 100.0 * (totals.sent - totals.late) / outcome.planned) if outcome.planned else 0.0,
        ok=totals.ok,
        errors={code_name(code): count for code, count in sorted(totals.codes.items()) if code > 0},
        no_answer=totals.codes[NO_ANSWER],
        rate_planned=_rate(outcome.planned, span) if isinstance(load, OpenLoop) else None,
        rate_sent=_rate(totals.sent, max(span, totals.last_sent)),
        throughput=_rate(totals.ok, outcome.elapsed),
        latency=percentiles(answered, unanswered_waits(outcome)),
        answered=percentiles(answered),
        service=percentiles(service_times(outcome.samples)),
        breakdown=breakdown(successes(outcome.samples), outcome.server),
        slowest=breakdown(slowest(outcome.samples, totals.ok), None),
        growth=_growth(outcome.samples, totals.ok),
        warnings=[],
    )
    summary.warnings.extend(_warnings(summary, outcome))
    return summary


def curve(outcome: Outcome) -> list[tuple[float, float]]:
    """The latency curve in seconds, of the requests that `Summary.latency` covers: see `distribution.quantiles`."""
    answered = latencies(outcome.samples)
    return quantiles(joined(answered, unanswered_waits(outcome))) if any(map(len, answered)) else []


def load_text(load: Load) -> str:
    """`200/s`, `50 to 500/s poisson`, `16 in flight`."""
    if not isinstance(load, OpenLoop):
        return f"{load.concurrency:,} in flight"
    first, last = (f"{rate:,.6g}" for rate in (load.first, load.last))
    rate = f"{first} to {last}/s" if first != last else f"{last}/s"
    return rate if load.arrivals == "uniform" else f"{rate} {load.arrivals}"


def late_after(load: Load) -> float:
    """Seconds after which a request is late. A closed loop has no plan, so there only the client itself can be late."""
    return max(LATE_SECONDS, LATE_SHARE * 2 / (load.first + load.last)) if isinstance(load, OpenLoop) else LATE_SECONDS


def code_name(code: int) -> str:
    """The gRPC name of a code."""
    return CODES.get(code, f"code {code}")


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


class _Totals(NamedTuple):
    sent: int
    late: int
    ok: int
    codes: Counter[int]
    last_sent: float


def _totals(outcome: Outcome) -> _Totals:
    """What is counted of the requests that were taken up."""
    sent = late = 0
    codes: Counter[int] = Counter()
    for chunk in outcome.samples.chunks():
        sent += int(np.count_nonzero(np.isfinite(chunk.sent)))
        late += int(np.count_nonzero(is_late(chunk, late_after(outcome.phase.load))))
        kinds, counts = np.unique(chunk.code, return_counts=True)
        codes.update(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))
    return _Totals(sent, late, codes[0], codes, largest(outcome.samples, "sent"))


def _growth(samples: Samples, ok: int) -> Growth | None:
    if ok < MIN_GROWTH_SAMPLES:
        return None
    fifth, answered, due = ok // 5, latencies(samples), due_times(samples)
    first, _ = split_at(answered, due, fifth)
    _, last = split_at(answered, due, ok - fifth)
    return Growth(*(median(part.map(lambda each: each[0][each[1]])) for part in (first, last)))


def _warnings(summary: Summary, outcome: Outcome) -> list[str]:
    warnings = []
    if summary.interrupted:
        warnings.append(f"interrupted after {duration_text(summary.elapsed)}: the figures cover that part only")
    if not summary.ok:
        warnings.append(f"nothing was measured, as no request {'succeeded' if summary.sent else 'was sent'}")
    warnings += _plan_warnings(summary)
    if summary.errors:
        failed, ended = sum(summary.errors.values()), outcome.samples.count
        warnings.append(f"{failed:,} of {counted(ended, 'request')} failed: {_failures(outcome)}")
    if summary.no_answer:
        warnings.append(f"{counted(summary.no_answer, 'request')} had not been answered when the phase ended")
    if summary.growth and summary.growth.grew:
        first, last = duration_text(summary.growth.first), duration_text(summary.growth.last)
        warnings.append(f"latency grew from {first} to {last} between the first and the last fifth of the phase")
    return warnings


def _failures(outcome: Outcome) -> str:
    """`10 UNAVAILABLE from 5.1 to 7.2 s ('draining'), 1 INTERNAL at 3.5 s`."""
    phrases = []
    for code, times in error_times(outcome).items():
        first, last, message = number_text(times.first), number_text(times.last), outcome.messages.get(code)
        when = f"at {first} s" if first == last else f"from {first} to {last} s"
        said = "" if message is None else f" ({quote(printable(message), MAX_MESSAGE_CHARACTERS)})"
        phrases.append(f"{sum(times.counts):,} {code_name(code)} {when}{said}")
    return ", ".join(phrases)


def _plan_warnings(summary: Summary) -> list[str]:
    if not summary.planned:
        return []
    causes = summary.delays.notable()
    warnings = []
    if summary.plan_kept < PLAN_KEPT_PERCENT:
        never = f" and {summary.unsent:,} were never sent" if summary.unsent else ""
        late = f"of {counted(summary.planned, 'request')}, {summary.late:,} were sent late{never}"
        of_what = "of the requests were sent at once" if summary.rate_planned is None else "of the plan was kept"
        warnings.append(f"only {share_text(summary.plan_kept)} % {of_what}: {late}")
        warnings += [_delay_text(cause, summary) for cause in causes]
    else:
        causes = []  # of a few requests, which say nothing about the rate
        if summary.unsent:
            warnings.append(f"{summary.unsent:,} of {counted(summary.planned, 'planned request')} were never sent")
    if summary.rate_planned is None:
        return warnings
    grew = summary.growth is not None and summary.growth.grew
    if summary.throughput < RATE_HELD_SHARE * summary.rate_planned and (summary.unsent or summary.failed or grew):
        warnings.append(_rate_text(summary, causes[0] if causes else None))
    return warnings


def _delay_text(cause: Cause, summary: Summary) -> str:
    requests, seconds = getattr(summary.delays, cause)
    who, mean = counted(requests, "request"), duration_text(seconds / requests if requests else 0.0)
    return {
        "window": f"{who} had to wait because the window was full, {mean} on average",
        "connection": f"{who} had no connection to the server, for {mean} on average",
        "network": f"{who} had to wait because the connection took no more data, {mean} on average",
        "machine": f"this machine was too busy with other work: {who} waited for a processor, {mean} on average",
        "processor": f"this client was too slow: {who} waited for it, {mean} on average; "
        "try more --processes, and see --self-test",
    }[cause]


def _rate_text(summary: Summary, cause: Cause | None) -> str:
    """`cause`: why most of the delayed requests were delayed."""
    planned = f"of the planned {rate_text(summary.rate_planned or 0.0)}"
    if cause in ("machine", "processor"):
        if summary.rate_sent < RATE_HELD_SHARE * (summary.rate_planned or 0.0):
            who = "this client" if cause == "processor" else "this machine"
            return f"{who} sent only {rate_text(summary.rate_sent)} {planned}"
        if cause == "machine":  # which the server may share
            return f"only {rate_text(summary.throughput)} {planned} were answered, which may be because of that"
    return f"the server handled only {rate_text(summary.throughput)} {planned}"
