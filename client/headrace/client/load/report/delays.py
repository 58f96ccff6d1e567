"""Why requests were sent late or never: each is put down to what it waited for longest. Pure.

A request that never left this client counts as waiting until the plan was over, whether it waited or failed at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.load.planning.phases import OpenLoop
from headrace.client.load.planning.schedule import Share, due_between
from headrace.client.load.record.run import Outcome, Tail
from headrace.client.load.record.samples import NO_ANSWER, Floats, Samples
from headrace.client.load.report.chunked import Chunked
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


def is_late(samples: Samples, after: float) -> npt.NDArray[np.bool]:
    """Which requests were sent more than `after` seconds after they were due."""
    return rounded(samples.sent - samples.intended) > after


def delays(outcome: Outcome, late_after: float) -> Delays:
    """Of the requests that were sent late, those that never left, and those that were never taken up."""
    counts, seconds = np.zeros(len(CAUSES), np.int64), np.zeros(len(CAUSES))
    for chunk in outcome.samples.chunks():
        samples = chunk.select(is_late(chunk, late_after) | np.isnan(chunk.sent))
        if not samples.count:
            continue
        waits = waits_before_sending(samples)
        unconnected = np.isnan(samples.sent) & np.isin(samples.code, UNANSWERED_CODES)
        waits["connection"] = waits["connection"] + np.where(unconnected, _until_the_end(outcome, samples), 0.0)
        longest = np.argmax([waits[cause] for cause in CAUSES], axis=0)
        counts += np.bincount(longest, minlength=len(CAUSES))
        seconds += [float(waits[cause].sum()) for cause in CAUSES]
    for tail in outcome.tails:
        shares = _shares(tail)
        for due in _never_taken_up(outcome, tail):
            counts[int(np.argmax(shares))] += len(due)
            seconds += np.array(shares) * float((tail.until - due).sum())
    return Delays(*map(Delay, counts.tolist(), seconds.tolist()))


def unanswered_waits(outcome: Outcome) -> Chunked[Floats]:
    """How long each request without an answer had waited for one: those that were lost, timed out, or never sent."""
    return Chunked(lambda: (waited for _, waited in unanswered(outcome)))


def unanswered(outcome: Outcome) -> Iterator[tuple[Floats, Floats]]:
    """When each request without an answer was due, and how long it had waited for one; some at a time."""
    for chunk in outcome.samples.chunks():
        samples = chunk.select(np.isin(chunk.code, UNANSWERED_CODES))
        waited = samples.ended - samples.intended
        waited += np.where(np.isnan(samples.sent), _until_the_end(outcome, samples), 0.0)
        yield samples.intended, rounded(waited)
    for tail in outcome.tails:
        for due in _never_taken_up(outcome, tail):
            waited = tail.until - due
            yield tail.until - waited, rounded(waited)


def _until_the_end(outcome: Outcome, samples: Samples) -> Floats:
    """From the end of each request until the plan was over. A closed loop has no plan."""
    end = plan_span(outcome) if isinstance(outcome.phase.load, OpenLoop) else 0.0
    return np.maximum(end - samples.ended, 0.0)


def _shares(tail: Tail) -> list[float]:
    """The shares of the wait of requests that were never taken up, in the order of CAUSES."""
    shares = [tail.window, tail.connection, 0.0, tail.machine]
    return [*shares, max(1.0 - sum(shares), 0.0)]


def _never_taken_up(outcome: Outcome, tail: Tail) -> Iterator[Floats]:
    """When the requests of a tail were due."""
    share = Share(tail.process, tail.processes)
    return due_between(outcome.phase, tail.seed, share, tail.first, tail.until)


def _share(delays: Delays, cause: Cause, at: int, total: float) -> bool:
    return bool(getattr(delays, cause)[at] > NOTABLE_SHARE * total)
