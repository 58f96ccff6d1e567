"""Why requests were sent late or never: each is put down to what it waited for longest. Pure.

A request that never left this client counts as waiting until the plan was over, whether it waited or failed at once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from headrace.client.load.planning.phases import OpenLoop
from headrace.client.load.planning.schedule import Share, due_between
from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import NO_ANSWER, Floats, Samples
from headrace.client.load.report.plan_span import plan_span
from headrace.client.load.report.rounding import rounded
from headrace.wire.errors import Code

Cause = Literal["window", "connection", "network", "machine", "processor"]
CAUSES: tuple[Cause, ...] = ("window", "connection", "network", "machine", "processor")
NOTABLE_SHARE = 0.1
"""A cause of less than this share of the delayed requests, or of the seconds, is not worth a sentence."""
UNANSWERED_CODES = (NO_ANSWER, Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
"""A request that ended with one of these may have no answer yet. Other errors are answers."""


class Delay(NamedTuple):
    requests: int
    """Those that waited longest for this cause."""
    seconds: float
    """For this cause, of all delayed requests together."""


class Delays(NamedTuple):
    """Of the requests that were sent late or never."""

    window: Delay
    connection: Delay
    network: Delay
    machine: Delay
    processor: Delay

    def notable(self) -> list[Cause]:
        """The causes that are worth a sentence, the one of most requests first."""
        requests, seconds = (sum(each[at] for each in self) for at in (0, 1))
        found = [cause for cause in CAUSES if _share(self, cause, 0, requests) and _share(self, cause, 1, seconds)]
        most = max(CAUSES, key=lambda cause: getattr(self, cause).requests)
        return sorted(found or [most] if requests else [], key=lambda cause: -getattr(self, cause).requests)

    @property
    def requests(self) -> int:
        return sum(each.requests for each in self)


def waits_before_sending(samples: Samples) -> dict[Cause, Floats]:
    """The seconds that each request waited until it was sent, or failed before that, by cause."""
    left = np.where(np.isfinite(samples.sent), samples.sent, samples.ended)
    waits: dict[Cause, Floats] = {cause: getattr(samples, cause) for cause in CAUSES if cause != "processor"}
    return waits | {"processor": np.maximum(rounded(left - samples.intended) - sum(waits.values()), 0.0)}


def delays(outcome: Outcome, late: np.ndarray[tuple[int], np.dtype[np.bool]]) -> Delays:
    """Of the `late` requests, those that never left, and those that were never taken up."""
    samples = outcome.samples.select(late | np.isnan(outcome.samples.sent))
    waits = waits_before_sending(samples)
    unconnected = np.isnan(samples.sent) & np.isin(samples.code, UNANSWERED_CODES)
    waits["connection"] = waits["connection"] + np.where(unconnected, _until_the_end(outcome, samples), 0.0)
    longest = np.argmax([waits[cause] for cause in CAUSES], axis=0) if samples.count else np.empty(0, int)
    counts = np.bincount(longest, minlength=len(CAUSES)).tolist()
    seconds = [float(waits[cause].sum()) for cause in CAUSES]
    for shares, waited in _tails(outcome):
        counts[int(np.argmax(shares))] += len(waited)
        for at, share in enumerate(shares):
            seconds[at] += share * float(waited.sum())
    return Delays(*map(Delay, counts, seconds))


def unanswered_waits(outcome: Outcome) -> Floats:
    """How long each request without an answer had waited for one: those that were lost, timed out, or never sent."""
    return unanswered(outcome)[1]


def unanswered(outcome: Outcome) -> tuple[Floats, Floats]:
    """When each request without an answer was due, and how long it had waited for one."""
    samples = outcome.samples.select(np.isin(outcome.samples.code, UNANSWERED_CODES))
    waited = samples.ended - samples.intended
    waited += np.where(np.isnan(samples.sent), _until_the_end(outcome, samples), 0.0)
    unsent = [waited for _, waited in _tails(outcome)]
    due = [tail.until - waited for tail, waited in zip(outcome.tails, unsent, strict=True)]
    return np.concatenate((samples.intended, *due)), rounded(np.concatenate((waited, *unsent)))


def _until_the_end(outcome: Outcome, samples: Samples) -> Floats:
    """From the end of each request until the plan was over. A closed loop has no plan."""
    end = plan_span(outcome) if isinstance(outcome.phase.load, OpenLoop) else 0.0
    return np.maximum(end - samples.ended, 0.0)


def _tails(outcome: Outcome) -> list[tuple[list[float], Floats]]:
    """For the requests that each process never took up: the shares of their wait by cause, and the waits."""
    found = []
    for tail in outcome.tails:
        share = Share(tail.process, tail.processes)
        due = due_between(outcome.phase, tail.seed, share, tail.first, tail.until)
        shares = [tail.window, tail.connection, 0.0, tail.machine]
        found.append(([*shares, max(1.0 - sum(shares), 0.0)], tail.until - due))
    return found


def _share(delays: Delays, cause: Cause, at: int, total: float) -> bool:
    return bool(getattr(delays, cause)[at] > NOTABLE_SHARE * total)
