"""A run: what was asked for, and what came of it. `record` writes and reads it, `report` makes figures of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.client.load.samples import EMPTY, Samples

Protocol = Literal["headrace", "oip"]
Mode = Literal["stream", "unary"]
Arrivals = Literal["uniform", "poisson"]


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests are sent when they are due, whether or not others were answered.

    `first` and `last`: requests a second at the beginning and at the end; between them the rate grows evenly.
    """

    first: float
    last: float
    arrivals: Arrivals = "uniform"


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many requests are in flight, each is followed by another when it has ended."""

    concurrency: int


Load = OpenLoop | ClosedLoop


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run with one load: first `warmup` seconds that nobody records, then `duration` seconds or `count`
    requests, whichever is given.
    """

    load: Load
    warmup: float
    duration: float | None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was asked to do, as far as a reader of its report wants to know. `outputs`: None for all."""

    target: str
    model: str
    version: str
    protocol: Protocol
    mode: Mode
    streams: int
    window: int
    processes: int
    inputs: tuple[str, ...]
    """As text: `x FP32[1,16] random`."""
    outputs: tuple[str, ...] | None
    keep: tuple[str, ...]
    timeout: float | None
    priority: int
    seed: int
    started: str
    """ISO 8601, UTC."""
    client: str
    """Version of this package."""
    server: str
    """Its name and version, as it says itself."""
    cpus: int
    """Of the machine that the client runs on."""


@dataclass(slots=True)
class Server:
    """Means over a phase in seconds, of all clients, where the server keeps statistics (ModelStatistics)."""

    count: int
    queue: float
    compute: float
    """Input, inference and output."""


@dataclass(slots=True)
class Outcome:
    """What came of a phase."""

    phase: Phase
    planned: int
    """Requests that were due; in a closed loop, which plans nothing, those that were sent."""
    unsent: int = 0
    """Due, and not sent before the phase was over."""
    elapsed: float = 0.0
    """Seconds from the beginning of the measured part to the last answer, and at least to the end of the plan."""
    samples: Samples = EMPTY
    messages: dict[int, str] = field(default_factory=dict)
    """The first error of each code."""
    server: Server | None = None
    interrupted: bool = False
    no_room: int = 0
    """Requests that waited in the client because as many as the window were in flight."""


@dataclass(slots=True)
class Run:
    settings: Settings
    outcomes: list[Outcome]
    name: str = ""
    """The file that it was read from."""
