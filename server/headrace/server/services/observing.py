"""Who hears how requests have ended: the log, and the traces. Both are introduced by the composition root.

Nothing here is asked for what a request is not going to have: without samples and traces, a request that succeeds costs
a test of an attribute, or a frame of them one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.state import Stream
from headrace.server.services.call import Call
from headrace.wire.errors import HeadraceError

TRACE_PARENT, TRACE_STATE = "traceparent", "tracestate"
"""The keys of metadata that carry the context of a trace (W3C)."""


class RequestLog(Protocol):
    """Writes lines about requests. `request` is the id that a client of the Open Inference Protocol has given."""

    @property
    def samples(self) -> bool:
        """Whether it wants to hear of requests that have succeeded: it then chooses some of them."""

    def failed(self, call: Call, rpc: str, failed: Failed, request: bytes = b"") -> None:
        """A request has failed, or was refused."""

    def done(self, call: Call, rpc: str, done: Done, request: bytes = b"") -> None:
        """A request has succeeded."""

    def gone(self, call: Call, rpc: str, in_flight: int) -> None:
        """A client has gone before so many of its tickets had ended."""


class Tracer(Protocol):
    """Makes the spans of a request, once it has ended. Times are those of the event loop's clock."""

    def begin(self, parent: str, state: str) -> object | None:
        """What `end` is to be given for a request with this traceparent and tracestate; None if it is not traced."""

    def end(
        self,
        context: object,
        call: Call,
        rpc: str,
        event: Done | Failed | None,
        arrived: float,
        sent: float,
        request: bytes = b"",
    ) -> None:
        """The request has ended with an event that was sent, or with none, because its client had gone."""


class _NoLog:
    samples = False

    def failed(self, call: Call, rpc: str, failed: Failed, request: bytes = b"") -> None: ...
    def done(self, call: Call, rpc: str, done: Done, request: bytes = b"") -> None: ...
    def gone(self, call: Call, rpc: str, in_flight: int) -> None: ...


_NO_LOG = _NoLog()


@dataclass(frozen=True, slots=True)
class Observers:
    """The log, and the tracer if requests are traced."""

    log: RequestLog = _NO_LOG
    tracer: Tracer | None = None

    def traces(self, call: Call, rpc: str) -> Traces | None:
        """The traces of the requests of a call, if requests are traced."""
        return None if self.tracer is None else Traces(self.tracer, call, rpc)


UNOBSERVED = Observers()


def undelivered(event: Event, error: HeadraceError) -> Failed:
    """What has become of a request whose result cannot be sent."""
    failed = Failed(event.tag, error, admitted=event.admitted)
    if isinstance(event, Done):
        failed.model, failed.version = event.plan.spec.name, event.plan.spec.version
        failed.waiting, failed.queued, failed.running = event.waiting, event.queued, event.running
    return failed


class Traces:
    """The requests of one call that are traced, by tag, from when they arrive until their events are written.

    Most that arrive are not traced, and cost a look at the context that they come with.
    """

    __slots__ = ("_call", "_parent", "_rpc", "_state", "_taken", "_traced", "_tracer")

    def __init__(self, tracer: Tracer, call: Call, rpc: str) -> None:
        self._tracer = tracer
        self._call = call
        self._rpc = rpc
        self._traced: dict[int, tuple[object, float]] = {}
        self._taken: list[tuple[object, float, Done | Failed, bytes]] = []
        self._parent = self._state = ""
        for key, value in call.metadata():
            if key == TRACE_PARENT and isinstance(value, str):
                self._parent = value
            elif key == TRACE_STATE and isinstance(value, str):
                self._state = value

    def begin(self, stream: Stream, tag: int, now: float, parent: str = "") -> None:
        """A request has arrived, and is about to be passed to the core. Without a `parent`, it has that of the call."""
        if tag and tag not in stream.tickets and not stream.ended:
            self.begin_only(tag, now, parent)

    def begin_only(self, tag: int, now: float, parent: str = "") -> None:
        """The same for a tag that is certainly free."""
        context = self._tracer.begin(parent, "") if parent else self._tracer.begin(self._parent, self._state)
        if context is not None:
            self._traced[tag] = context, now

    def taken(self, events: Sequence[Event], request: bytes = b"") -> None:
        """These events are about to be written."""
        if not self._traced:
            return
        for event in events:
            if event.tag in self._traced and isinstance(event, Done | Failed):
                self._taken.append((*self._traced.pop(event.tag), event, request))

    def written(self, now: float) -> None:
        """They have been."""
        while self._taken:
            context, arrived, event, request = self._taken.pop()
            self._tracer.end(context, self._call, self._rpc, event, arrived, now, request)

    def close(self, now: float) -> None:
        """The call has ended."""
        self.written(now)
        while self._traced:
            context, arrived = self._traced.popitem()[1]
            self._tracer.end(context, self._call, self._rpc, None, arrived, now)
