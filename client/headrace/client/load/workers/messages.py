"""The messages between the processes of a load test, and the events of a run. Pure.

pool to worker     StartPhase for each phase; Stop. A closed pipe ends the worker.
worker to pool     WorkerReady; SampleBatches and a WorkerFinished for each phase; WorkerFailed, at any time, as last
pool to observer   RunDescription; PhaseStarted, SampleBatches and PhaseFinished for each phase
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.client.load.callers.caller import Request
from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.run import Mode, Outcome, Protocol, ServerMeans
from headrace.client.load.record.samples import Samples
from headrace.client.load.sending.run_phase import ShareResult
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.models import Model

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run, as every process receives it.

    `streams` are divided among the processes, each of which needs at least one; `window` is that of each stream.
    `phases` run one after the other, unless the pool is told to choose each phase by the outcomes of those before it.
    `inputs`, `shapes` and `jsonl` are as on the command line. `patience` is how many seconds after the end of a phase's
    plan unanswered requests are given up. `repeat` says how often `phases` contains each load.
    """

    connection: ConnectionSettings
    protocol: Protocol
    mode: Mode
    request: Request
    streams: int
    window: int
    processes: int
    phases: tuple[Phase, ...]
    seed: int
    inputs: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    jsonl: Path | None = None
    patience: float = PATIENCE_SECONDS
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class RunDescription:
    """What a run sends and to whom: the model, the server's name and version, and a text for each input."""

    model: Model
    server: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    description: RunDescription


@dataclass(frozen=True, slots=True)
class StartPhase:
    """`start`: time 0 of the measured part by `time.perf_counter()`, a clock that all processes share."""

    phase: int
    start: float
    plan: Phase


@dataclass(frozen=True, slots=True)
class Stop:
    """End the phase soon, as if its plan were over."""


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """The samples of one process since its last batch. Sent several times a second, even if there are none."""

    phase: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class WorkerFinished:
    """One process has finished a phase. `server` is what the server's statistics say, if this process read them."""

    phase: int
    result: ShareResult
    server: ServerMeans | None


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A process cannot continue. The error is meant for the user."""

    error: Exception


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase has started. `start`: time 0 of its measured part by `time.perf_counter()`; `began`: by `time.time()`."""

    phase: int
    start: float
    plan: Phase
    began: float


@dataclass(frozen=True, slots=True)
class PhaseFinished:
    """A phase is over. `warmup_failures` counts the failed requests of its warm-up, which the outcome leaves out."""

    phase: int
    outcome: Outcome
    warmup_failures: int


ToWorker = StartPhase | Stop
FromWorker = WorkerReady | SampleBatch | WorkerFinished | WorkerFailed
RunEvent = RunDescription | PhaseStarted | SampleBatch | PhaseFinished
