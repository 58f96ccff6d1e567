"""A run: what it was asked to do and what came of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.samples import NO_SAMPLES, Samples

Protocol = Literal["headrace", "oip"]
Mode = Literal["stream", "unary"]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run was asked to do, as far as the reader of a report needs it."""

    target: str
    model: str
    version: str
    protocol: Protocol
    mode: Mode
    streams: int
    window: int
    processes: int
    inputs: tuple[str, ...]
    """Each as text: `x FP32[1,16] random`."""
    outputs: tuple[str, ...] | None
    """None means all outputs."""
    keep: tuple[str, ...]
    timeout: float | None
    priority: int
    seed: int
    started: str
    """ISO 8601, UTC."""
    client: str
    """The version of this package."""
    server: str
    """The server's name and version, as it reports them."""
    cpus: int
    """CPUs of the client's machine."""
    repeat: int = 1
    """How often each load was measured. The phases are all loads, all loads again, and so on."""
    search: str | None = None
    """The condition of a search for the highest rate that fulfils it, as written: its phases are trials of rates."""


@dataclass(slots=True)
class ServerMeans:
    """Mean times per request over a phase, in seconds, from the statistics that a server keeps (ModelStatistics).

    They include the requests of every client of that server.
    """

    count: int
    queue: float
    compute: float
    """Input, inference and output together."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a process's share of a plan: requests that were due, and not taken up before sending ended.

    Their due times follow from the plan: they are those from `first` to `until`.
    """

    seed: int
    process: int
    processes: int
    first: float
    until: float
    """When sending ended."""
    window: float
    """The share of their wait that was for room in the window, from 0 to 1."""
    connection: float
    """The share that was for a connection."""
    machine: float
    """The share that was for a processor of the machine. The rest was for this client to do its work."""


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """What a server said about itself at a moment, with all its clients."""

    moment: float
    """In seconds since the measured part of the phase began."""
    resident_bytes: int
    tickets_in_flight: int
    tickets_queued: int
    """Of the model, as are the slots."""
    slots_running: int
    slots: int


@dataclass(slots=True)
class Outcome:
    """What came of a phase."""

    phase: Phase
    planned: int
    """Requests that were due; in a closed loop, which has no plan, the requests that were sent."""
    unsent: int = 0
    """Requests that were due but not taken up before the phase ended; those of `tails`."""
    elapsed: float = 0.0
    """Seconds from the beginning of the measured part to the last answer, and at least to the end of the plan."""
    samples: Samples = NO_SAMPLES
    messages: dict[int, str] = field(default_factory=dict)
    """The first error message of each code."""
    server: ServerMeans | None = None
    interrupted: bool = False
    tails: tuple[Tail, ...] = ()
    began: float | None = None
    """When the measured part began, in seconds since 1970 (UTC)."""
    server_loads: list[ServerLoad] = field(default_factory=list)
    """In the order of their moments; empty if the server does not say."""


@dataclass(slots=True)
class Run:
    settings: RunSettings
    outcomes: list[Outcome]
    name: str = ""
    """The file it was read from."""
