"""Lines about requests: each that fails, at a bounded rate, and a sample of those that succeed.

No line has what a tensor holds, or metadata. Messages of errors name what is wrong, and quote names at most.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeAlias

from headrace.server.core.events import Done, Failed
from headrace.server.telemetry.callers import Caller, caller_fields
from headrace.server.telemetry.formats import FIELDS, UNCOUNTED
from headrace.server.telemetry.line_rate import LineRate
from headrace.wire.errors import Code, HeadraceError

LINES_OF_A_KIND = 10
"""Lines in a second about requests of one model that fail with one code."""
LINES_IN_TOTAL = 100
SAMPLES = 1000
"""Lines in a second about requests that have succeeded."""
MAX_NAMED = 5
"""How many kinds the line names that says how many were left out."""
NO_RPC = "methods that this server does not have"
"""What stands for the names that clients give those: in kinds, which are counted and shown."""

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
_LEVELS = {
    Code.INTERNAL: _ERROR,
    Code.RESOURCE_EXHAUSTED: _WARNING,
    Code.UNAVAILABLE: _WARNING,
    Code.DEADLINE_EXCEEDED: _WARNING,
    Code.UNAUTHENTICATED: _WARNING,
    Code.PERMISSION_DENIED: _WARNING,
    Code.CANCELLED: _DEBUG,
}
"""Error: the server is at fault. Warning: it is overloaded, late, or attacked. All others are their clients' own."""

logger = logging.getLogger("headrace.requests")

_Kind: TypeAlias = tuple[int, str, str]
"""Level, code, and the model, or else the RPC."""


class RequestLog:
    """`services.observing.RequestLog`, and `ended` for calls. `ratio` of the requests that succeed are sampled."""

    def __init__(
        self,
        ratio: float,
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._ratio = ratio
        self.samples = ratio > 0
        self.draining = False
        """Whether the server is stopping, so that it is expected to be unavailable."""
        self._failures = LineRate[_Kind](LINES_OF_A_KIND, LINES_IN_TOTAL, _report_failures, now, later)
        self._successes = LineRate[str](SAMPLES, SAMPLES, _report_successes, now, later)

    def failed(self, call: Caller, rpc: str, failed: Failed, request: bytes = b"") -> None:
        error = failed.error
        level = self._level(error)
        # Clients choose the names of models that do not exist, so these are no kinds.
        if self._admits(level, error, f"model {failed.model}" if failed.version else rpc):
            fields: dict[str, str | float] = {"code": error.code.name, "rpc": rpc}
            fields |= _model(failed.model, failed.version) | _names(rpc, failed.tag, request)
            fields |= caller_fields(call)
            if error.incident:
                fields["incident"] = error.incident
            fields |= _times(failed)
            _log(level, f"a request failed: {error.message}", fields)

    def ended(self, call: Caller, rpc: str, error: HeadraceError) -> None:
        """A call has ended with an error that is not that of a ticket."""
        level = self._level(error)
        if self._admits(level, error, NO_RPC if error.code is Code.UNIMPLEMENTED else rpc):
            fields: dict[str, str | float] = {"code": error.code.name, "rpc": rpc, **caller_fields(call)}
            if error.incident:
                fields["incident"] = error.incident
            _log(level, f"a call failed: {error.message}", fields)

    def done(self, call: Caller, rpc: str, done: Done, request: bytes = b"") -> None:
        if random.random() < self._ratio and logger.isEnabledFor(_INFO) and self._successes.admits(""):
            spec = done.plan.spec
            fields: dict[str, str | float] = {"code": "OK", "rpc": rpc}
            fields |= _model(spec.name, spec.version) | _names(rpc, done.tag, request)
            fields |= caller_fields(call)
            fields |= _times(done)
            fields |= {"batch": done.shared, "direct": done.direct}
            _log(_INFO, "a request succeeded", fields)

    def gone(self, call: Caller, rpc: str, in_flight: int) -> None:
        if logger.isEnabledFor(_DEBUG):
            _log(_DEBUG, f"a client has gone with {in_flight} tickets in flight", {"rpc": rpc, **caller_fields(call)})

    def flush(self) -> None:
        """Say at once what else has happened: the server ends."""
        self._failures.flush()
        self._successes.flush()

    def _level(self, error: HeadraceError) -> int:
        level = _LEVELS.get(error.code, _INFO)
        # What never fits is its client's mistake, and a server that stops is expected to refuse.
        expected = error.code is Code.RESOURCE_EXHAUSTED and not error.retryable
        expected |= error.code is Code.UNAVAILABLE and self.draining
        return _INFO if expected else level

    def _admits(self, level: int, error: HeadraceError, of: str) -> bool:
        return logger.isEnabledFor(level) and self._failures.admits((level, error.code.name, of))

    def __repr__(self) -> str:
        return f"<RequestLog: {self._failures}>"


def _model(name: str, version: str) -> dict[str, str]:
    return {key: value for key, value in (("model", name), ("version", version)) if value}


def _names(rpc: str, tag: int, request: bytes) -> dict[str, str | float]:
    """What the client calls the request; of a stream without ids, its number. The tag of a unary call says nothing."""
    if request:
        return {"request_id": request.decode(errors="replace")}
    return {"tag": tag} if tag and "Stream" in rpc else {}


def _times(event: Done | Failed) -> dict[str, float]:
    """Where the time went, in milliseconds."""
    times = ("waiting_ms", event.waiting), ("queued_ms", event.queued), ("running_ms", event.running)
    return {name: round(seconds * 1e3, 3) for name, seconds in times}


def _log(level: int, message: str, fields: dict[str, str | float]) -> None:
    logger.log(level, "%s", message, extra={FIELDS: fields, UNCOUNTED: True})


def _report_failures(left_out: dict[_Kind, int], more: int) -> None:
    """One line for all of them, at the highest of the levels that are known."""
    most = sorted(left_out, key=lambda kind: -left_out[kind])
    named = [f"{left_out[each]:,} {each[1]} of {each[2]}" for each in most[:MAX_NAMED]]
    count = sum(left_out.values()) + more
    others = ""
    if len(most) > MAX_NAMED:
        others = f", and {'more than ' if more else ''}{len(most) - MAX_NAMED} other kinds"
    requests = "request" if count == 1 else "requests"
    message = f"and {count:,} more {requests} failed within a second: {', '.join(named)}{others}"
    _log(max(level for level, _, _ in left_out), message, {"count": count})


def _report_successes(left_out: dict[str, int], more: int) -> None:
    count = sum(left_out.values()) + more
    requests = "request" if count == 1 else "requests"
    _log(_INFO, f"and {count:,} more sampled {requests} succeeded within a second", {"count": count})
