"""The phases of a run and the loads they put on a server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Arrivals = Literal["uniform", "poisson"]


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests are sent when they are due, whether or not earlier ones have been answered.

    `first` and `last` are requests per second at the beginning and at the end; in between, the rate changes linearly.
    """

    first: float
    last: float
    arrivals: Arrivals = "uniform"


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """`concurrency` requests are kept in flight: when one ends, the next one is sent."""

    concurrency: int


Load = OpenLoop | ClosedLoop


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run with one load.

    It begins with `warmup` seconds that are not recorded. The measured part that follows takes `duration` seconds or
    `count` requests; exactly one of the two is given.
    """

    load: Load
    warmup: float
    duration: float | None
    count: int | None = None
