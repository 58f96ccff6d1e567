"""The figures of a phase: what was planned, what came of it, how long it took, and where the time went. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.client.load.report.distribution import Percentiles, percentiles, quantiles
from headrace.client.load.report.formats import counted, duration_text, ms_text, rate_text, share_text
from headrace.client.load.run import Load, OpenLoop, Outcome, Server
from headrace.client.load.samples import NO_ANSWER, Floats, Samples
from headrace.client.terminal.printing import printable
from headrace.wire.errors import Code, quote

LATE = 1e-3
"""Seconds. A request that is sent longer than that after it was due is late, ..."""
LATE_SHARE = 0.1
"""... unless requests are further apart on average than to notice it: then it is this part of their distance."""
KEPT = 99.0
"""Percent of a plan. What keeps less of it is no measurement of that plan."""
HELD = 0.98
"""Of the planned rate. A throughput below it is one that the server did not hold, if anything else says so too."""
GREW = 2.0
"""So many times what it was is growth, if the difference is more than LATE."""
LEAST_GROWTH_SAMPLES = 50
FOREIGN_CODES = {2: "UNKNOWN", 6: "ALREADY_EXISTS", 10: "ABORTED", 11: "OUT_OF_RANGE", 15: "DATA_LOSS"}
"""The codes of gRPC that no Headrace server says."""
CODES = {code.value: code.name for code in Code} | FOREIGN_CODES
MESSAGE = 200
"""Characters of a server's message in a warning."""


@dataclass(frozen=True, slots=True)
class Where:
    """Mean seconds of a request, which add up to its mean latency. A server that tells no times leaves None, and then
    `network` is the server too.
    """

    client: float
    network: float
    queue: float | None
    inference: float | None

    @property
    def total(self) -> float:
        return self.client + self.network + (self.queue or 0.0) + (self.inference or 0.0)


@dataclass(frozen=True, slots=True)
class Growth:
    """Median latency of the first and of the last fifth of the requests, in seconds."""

    first: float
    last: float

    @property
    def grew(self) -> bool:
        return self.last > GREW * self.first and self.last - self.first > LATE


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a phase. Times are in seconds, and None when nothing succeeded; rates are per second."""

    load: str
    interrupted: bool
    elapsed: float
    planned: int
    sent: int
    unsent: int
    late: int
    no_room: int
    """Requests that waited in the client because the window was full."""
    plan_kept: float
    """Percent of the planned requests that were sent, and not late. 0 when nothing was planned."""
    ok: int
    errors: dict[str, int]
    """Failures, by the name of their code."""
    no_answer: int
    rate_planned: float | None
    """None in a closed loop, which plans nothing."""
    rate_sent: float
    throughput: float
    latency: Percentiles | None
    """From when a request was due."""
    service: Percentiles | None
    """From when it was sent."""
    where: Where | None
    slowest: Where | None
    """The same of the slowest hundredth."""
    growth: Growth | None
    """None of fewer successes than LEAST_GROWTH_SAMPLES."""
    warnings: list[str]
    """Sentences that nobody must miss."""

    @property
    def failed(self) -> int:
        """Sent, and not a success."""
        return sum(self.errors.values()) + self.no_answer


def summarise(outcome: Outcome) -> Summary:
    samples, load = outcome.samples, outcome.phase.load
    good = samples.where(samples.code == 0)
    late = int(np.count_nonzero(_seconds(samples.sent - samples.intended) > late_after(load)))
    latency = percentiles(_seconds(good.ended - good.intended))
    span = _span(outcome)
    summary = Summary(
        load=load_text(load),
        interrupted=outcome.interrupted,
        elapsed=outcome.elapsed,
        planned=outcome.planned,
        sent=samples.count,
        unsent=outcome.unsent,
        late=late,
        no_room=outcome.no_room,
        plan_kept=min(100.0, 100.0 * (samples.count - late) / outcome.planned) if outcome.planned else 0.0,
        ok=good.count,
        errors=_errors(samples),
        no_answer=int(np.count_nonzero(samples.code == NO_ANSWER)),
        rate_planned=_rate(outcome.planned, span) if isinstance(load, OpenLoop) else None,
        rate_sent=_rate(samples.count, max(span, float(samples.sent.max(initial=0.0)))),
        throughput=_rate(good.count, outcome.elapsed),
        latency=latency,
        service=percentiles(_seconds(good.ended - good.sent)),
        where=_where(good, outcome.server),
        slowest=_where(_slowest(good), None),
        growth=_growth(good),
        warnings=[],
    )
    summary.warnings.extend(_warnings(summary, outcome))
    return summary


def curve(samples: Samples) -> list[tuple[float, float]]:
    """Latency in seconds over p, for a 1/(1-p) axis: see `distribution.quantiles`."""
    good = samples.where(samples.code == 0)
    return quantiles(_seconds(good.ended - good.intended))


def load_text(load: Load) -> str:
    """`200/s`, `50 to 500/s poisson`, `16 in flight`."""
    if not isinstance(load, OpenLoop):
        return f"{load.concurrency:,} in flight"
    first, last = (f"{rate:,.6g}" for rate in (load.first, load.last))
    rate = f"{first} to {last}/s" if first != last else f"{last}/s"
    return rate if load.arrivals == "uniform" else f"{rate} {load.arrivals}"


def late_after(load: Load) -> float:
    """Seconds. A closed loop plans nothing, so that only the client itself can be late."""
    return max(LATE, LATE_SHARE * 2 / (load.first + load.last)) if isinstance(load, OpenLoop) else LATE


def code_name(code: int) -> str:
    """As gRPC calls it."""
    return CODES.get(code, f"code {code}")


def _seconds(durations: Floats) -> Floats:
    """Without what subtracting floats adds to them: the clocks tell no more than nanoseconds."""
    return np.round(durations, 9)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _span(outcome: Outcome) -> float:
    """Seconds in which requests were due; in a closed loop, all of the phase."""
    load, phase = outcome.phase.load, outcome.phase
    if not isinstance(load, OpenLoop):
        return phase.duration if phase.duration and not outcome.interrupted else outcome.elapsed
    mean = (load.first + load.last) / 2
    span = phase.duration if phase.duration is not None else _rate(phase.count or 0, mean)
    return min(span, outcome.elapsed) if outcome.interrupted else span


def _errors(samples: Samples) -> dict[str, int]:
    codes, counts = np.unique(samples.code[samples.code > 0], return_counts=True)
    return {code_name(code): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}


def _where(good: Samples, server: Server | None) -> Where | None:
    """What the server says of each request, or else of all of them, or else nothing."""
    if not good.count:
        return None
    client = float((good.sent - good.intended).mean())
    service = good.ended - good.sent
    # Unary calls wait for no other ticket, and say nothing of it.
    queue, inference = np.nan_to_num(good.waiting) + good.queued, good.running
    if not np.isfinite(queue + inference).all():
        if server is None or not server.count:
            return Where(client, float(service.mean()), None, None)
        queue, inference, service = (np.array([each]) for each in (server.queue, server.compute, service.mean()))
    # No part is longer than what it is a part of, whatever the two clocks say, so that the parts add up.
    inference = np.minimum(inference, service)
    queue = np.minimum(queue, service - inference)
    return Where(client, float((service - queue - inference).mean()), float(queue.mean()), float(inference.mean()))


def _slowest(good: Samples) -> Samples:
    most = -(-good.count // 100)
    return good.where(np.argsort(good.ended - good.intended, kind="stable")[good.count - most :])


def _growth(good: Samples) -> Growth | None:
    if good.count < LEAST_GROWTH_SAMPLES:
        return None
    latency = _seconds(good.ended - good.intended)[np.argsort(good.intended, kind="stable")]
    fifth = len(latency) // 5
    return Growth(float(np.median(latency[:fifth])), float(np.median(latency[-fifth:])))


def _warnings(summary: Summary, outcome: Outcome) -> list[str]:
    warnings = []
    if summary.interrupted:
        warnings.append(f"interrupted after {duration_text(summary.elapsed)}: the figures are of that part")
    if not summary.sent:
        warnings.append("nothing was measured: no request was sent")
    warnings += _plan_warnings(summary)
    if summary.errors:
        failed = counted(sum(summary.errors.values()), "request")
        warnings.append(f"{failed} of {summary.sent:,} failed: {_failures(summary, outcome)}")
    if summary.no_answer:
        warnings.append(f"{counted(summary.no_answer, 'request')} had no answer when the run was over")
    if summary.growth and summary.growth.grew:
        first, last = ms_text(summary.growth.first), ms_text(summary.growth.last)
        warnings.append(f"latency grew from {first} to {last} ms between the first and the last fifth of the run")
    return warnings


def _failures(summary: Summary, outcome: Outcome) -> str:
    """`10 UNAVAILABLE ('draining'), 2 INTERNAL`."""
    messages = {code_name(code): quote(printable(text), MESSAGE) for code, text in outcome.messages.items()}
    return ", ".join(
        f"{count:,} {name} ({messages[name]})" if name in messages else f"{count:,} {name}"
        for name, count in summary.errors.items()
    )


def _plan_warnings(summary: Summary) -> list[str]:
    warnings = []
    if summary.rate_planned is None:
        if summary.sent and summary.plan_kept < KEPT:
            share = share_text(100 * summary.late / summary.sent)
            warnings.append(f"this client is too slow: {share} % of its requests were sent over 1 ms after their turn")
        return warnings
    if summary.planned and summary.plan_kept < KEPT:
        never = f" and {summary.unsent:,} never" if summary.unsent else ""
        late = f"of {counted(summary.planned, 'request')}, {summary.late:,} were sent late{never}"
        warnings.append(f"only {share_text(summary.plan_kept)} % of the plan was kept: {late}")
        warnings.append(_why_late(summary))
    elif summary.unsent:
        warnings.append(f"{counted(summary.unsent, 'request')} of {summary.planned:,} that were due were never sent")
    grew = summary.growth is not None and summary.growth.grew
    if summary.throughput < HELD * summary.rate_planned and (summary.unsent or summary.failed or grew):
        held, planned = rate_text(summary.throughput), rate_text(summary.rate_planned)
        who = "this client sent" if _client_is_slow(summary) else "the server held"
        warnings.append(f"{who} {held} of the {planned} that were planned")
    return warnings


def _client_is_slow(summary: Summary) -> bool:
    """Most of what was sent late did not have to wait for answers."""
    return summary.late > 2 * summary.no_room


def _why_late(summary: Summary) -> str:
    if _client_is_slow(summary):
        return "this client was too slow: see --processes and --self-test"
    return f"{counted(summary.no_room, 'request')} had to wait, with as many in flight as the window allows"
