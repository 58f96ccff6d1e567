"""How requests are made: a module for each protocol and mode, which all look the same to `attack`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from headrace.client.load.samples import Times

Inputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is the same in all requests of a run. `timeout` in seconds; `outputs`: None for all."""

    model: str
    version: str
    outputs: tuple[str, ...] | None = None
    keep: tuple[str, ...] = ()
    timeout: float | None = None
    priority: int = 0


class Answer(NamedTuple):
    """`sent` and `ended` by `time.perf_counter()`; `code` of gRPC, 0 for a success; `message` of an error."""

    sent: float
    ended: float
    code: int
    message: str
    times: Times


class Caller(Protocol):
    """A stream, or a connection for unary calls. `async with` it; leaving does not wait for answers."""

    async def call(self, inputs: Inputs) -> Answer:
        """Make a request and wait for its answer. Raises nothing that a request can end with: it is in the answer.

        Requests are sent in the order in which they are made. The caller keeps to the window; what it makes above
        waits here, and `sent` is when it was given to the transport.
        """
        ...
