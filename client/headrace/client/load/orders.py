"""What the processes of a load test tell each other, and whoever looks on. Pure.

crew to worker    Begin for each phase, Stop; a pipe that is closed ends a worker
worker to crew    Ready, then for each phase Batches and Over; Failed at any time, and then nothing
crew to watchers  Described, then for each phase Began, Batches and PhaseOver
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.client.load.attack import Part
from headrace.client.load.calling import Request
from headrace.client.load.run import Mode, Outcome, Phase, Protocol, Server
from headrace.client.load.samples import Samples
from headrace.client.protocol.models import Model

PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run, as all processes get it.

    `streams` are shared among the processes, of which each needs one; `window` is that of each stream. `inputs`,
    `shapes` and `jsonl` as on the command line. `patience`: seconds after the end of a phase's plan until requests
    without an answer are given up.
    """

    target: str
    protocol: Protocol
    mode: Mode
    request: Request
    streams: int
    window: int
    processes: int
    phases: tuple[Phase, ...]
    seed: int
    max_message_bytes: int
    inputs: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    jsonl: Path | None = None
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Described:
    """What is attacked with what: the server's name and version, and a text for each input."""

    model: Model
    server: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    described: Described


@dataclass(frozen=True, slots=True)
class Begin:
    """`begin`: time 0 of the measured part by `time.perf_counter()`, which all processes share."""

    phase: int
    begin: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End the phase soon, as if its plan were over."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one process since its last batch; several times a second, also when there are none."""

    phase: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Over:
    """One process has ended a phase. `server`: what the server says of it, if this process has asked and it does."""

    phase: int
    part: Part
    server: Server | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A process cannot go on. The error is one for the user."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Began:
    """A phase has begun; its measured part begins at `begin` by `time.perf_counter()`."""

    phase: int
    begin: float


@dataclass(frozen=True, slots=True)
class PhaseOver:
    """`warmup_failures`: requests of the warm-up that have failed, which the outcome does not hold."""

    phase: int
    outcome: Outcome
    warmup_failures: int


Order = Begin | Stop
Report = Ready | Batch | Over | Failed
News = Described | Began | Batch | PhaseOver
