"""What the parent tells a worker: at its start, and when something is to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.server.repository.scan import Scan
from headrace.server.settings import Settings
from headrace.server.telemetry.metrics.readings import Readings
from headrace.server.transport.addresses import Addresses
from headrace.server.workers.shares import Processors

# What a worker asks its parent.
HELLO, SCAN, JOINED = "hello", "scan", "joined"
FINDINGS, KEEP, TURN, TURN_OVER = "findings", "keep", "turn", "turn over"
LOAD, UNLOAD, PEERS, COMMAND = "load", "unload", "peers", "command"
# What the parent asks a worker, beside the first two of these.
REFRESH, RPC, READINGS, STATE, RELOAD = "refresh", "rpc", "readings", "state", "reload"


class RegisteredRegion(NamedTuple):
    """A region of shared memory; `owner` is the name of an identity, None for clients without one."""

    owner: str | None
    name: str
    key: str
    offset: int
    byte_size: int
    object: tuple[int, int]
    """The device and the inode of the object."""


class Joined(NamedTuple):
    """What a worker tells that listens: how many models it serves, in words, and the name of what carries calls."""

    models: str
    transport: str


class WorkerReadings(NamedTuple):
    """The metrics of a worker, and its memory."""

    readings: Readings
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """What clients have changed, in all workers, that a new one does not find on disk."""

    log_level: int = 0
    """0: nobody has."""
    regions: Sequence[RegisteredRegion] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """`settings` are the worker's share."""

    number: int
    count: int
    settings: Settings
    addresses: Addresses
    processors: Processors


@dataclass(frozen=True, slots=True)
class ToLoad:
    """What a worker begins with; from then on it is told of changes. Clients have unloaded the models `unloaded`."""

    scan: Scan
    unloaded: frozenset[str]
    state: State


@dataclass(frozen=True, slots=True)
class RemoteRpc:
    """A unary call that another worker has got: its path, request, and the name of the client's identity, if any."""

    path: str
    request: bytes
    client: str | None = None


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """What another worker has answered; `response` is None, and there is a `problem`, where it has not."""

    number: int
    response: bytes | None
    problem: str = ""
