"""The interface of all callers, and what goes in and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.samples import ServerTimes

Inputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """What all requests of a run have in common. `timeout` is in seconds; `outputs` of None means all."""

    model: str
    version: str
    outputs: tuple[str, ...] | None = None
    keep: tuple[str, ...] = ()
    timeout: float | None = None
    priority: int = 0


class Answer(NamedTuple):
    """The end of a request, successful or not.

    `sent` and `ended` are moments of `time.perf_counter()`; `sent` is NEVER_SENT for a request that failed before it
    left this client. `code` is a gRPC status code, of which 0 is success, and `message` the error message.
    """

    sent: float
    ended: float
    code: int
    message: str
    times: ServerTimes


class Caller(Protocol):
    """A stream, or a connection for unary calls. An async context manager; leaving it does not wait for answers."""

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        """Send a request and wait for its answer. A failure of the request is returned in the answer, never raised.

        Requests are sent in the order of the calls. Calls beyond the window wait here. `departure` shows, also before
        the answer, what the request waits for and when it was handed to the transport.
        """
        ...

    @property
    def outage_seconds(self) -> float:
        """How long requests have waited for a connection so far; those that wait at the same time count once."""
        ...
