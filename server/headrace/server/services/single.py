"""A single inference: a stream with a window of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from headrace.server.core.events import Done, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import AnswerableCall, Call
from headrace.server.services.observing import Observers
from headrace.wire.errors import DeadlineExceeded, Unavailable

UNLIMITED_BYTES = (1 << 31) - 1
"""The largest message for clients whose own limit is unknown: gRPC enforces that limit at the client."""

TAG = 1
"""Of the only ticket."""

P = ParamSpec("P")


def time_left(call: Call) -> float:
    """Seconds until the client's deadline; 0 without one. Raises DeadlineExceeded when it is over.

    A busy server may see a call only then. Nobody waits for its answer any more.
    """
    seconds = call.time_remaining()
    if seconds is None:
        return 0.0
    if seconds <= 0.0:
        raise DeadlineExceeded("the deadline of the call was over before it was handled")
    return seconds


class SingleInference:
    """Answers a call with the result of one Infer: with what `respond` makes of it, or the error of either.

    `release` is called at the end, whatever that is. `request` is the id of the request, for the log and for traces.
    """

    __slots__ = (
        "_call",
        "_handle",
        "_observers",
        "_release",
        "_request",
        "_respond",
        "_rpc",
        "_running",
        "_submitting",
        "_traces",
    )

    def __init__(
        self,
        streams: Streams,
        call: AnswerableCall,
        rpc: str,
        observers: Observers,
        respond: Callable[[Done], bytes],
        release: Callable[[], None] = lambda: None,
        request: bytes = b"",
    ) -> None:
        self._call = call
        self._rpc = rpc
        self._observers = observers
        self._request = request
        self._respond = respond
        self._release = release
        self._handle = streams.open(call.client, unary=True)
        self._running = self._submitting = True
        self._traces = observers.traces(call, rpc)

    def begin(
        self, apply: Callable[Concatenate[Commands, Stream, float, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Submit what `apply` does (see `StreamHandle.submit`). It is answered now, or when it has ended."""
        self._handle.on_news = self._on_news
        self._call.on_end = self._end
        try:
            if self._traces is not None:
                self._traces.begin_only(TAG, asyncio.get_running_loop().time())
            self._handle.submit(apply, *args, **kwargs)
        except Exception as error:
            self._end()
            self._call.fail(error)
            return
        self._submitting = False
        self._look()

    def _on_news(self) -> None:
        if not self._submitting:
            self._submitting = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._submitting = False
        if not self._running:
            return
        handle, call = self._handle, self._call
        try:
            events = handle.take()
            if not events:
                if handle.ended:
                    self._end()
                    call.fail(Unavailable("the server has stopped"))
                return
            (event,) = events
            if self._traces is not None:
                self._traces.taken(events, self._request)
            if isinstance(event, Failed):
                self._observers.log.failed(call, self._rpc, event, self._request)
                call.reported = True
                raise event.error
            assert isinstance(event, Done)
            response = self._respond(event)
            if self._observers.log.samples:
                self._observers.log.done(call, self._rpc, event, self._request)
        except Exception as error:
            self._end()
            call.fail(error)
        else:
            try:
                call.respond(response)
            finally:
                self._end()  # the response is on its way before the core goes on

    def _end(self) -> None:
        """The call has its answer, or needs none any more."""
        if self._running:
            self._running = False
            if self._traces is not None:
                self._traces.close(asyncio.get_running_loop().time())
            self._call.on_end = self._handle.on_news = None
            self._handle.close()
            self._release()
