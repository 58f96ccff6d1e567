"""What a case is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measuring.bounds import NO_BOUND, Bound
from tests.bench.measuring.turn import RATE, Figure, Turn
from tests.bench.references.echo import Echo
from tests.bench.serving.server import Server


@dataclass(frozen=True, slots=True)
class Setting:
    """Where turns take place."""

    seconds: float
    """The length of a turn."""
    folder: Path
    """A temporary folder, for models."""
    echo: Echo


@dataclass(frozen=True, slots=True)
class Reference:
    """What a case is compared with, in the same round."""

    title: str
    turn: Callable[[Setting], Turn] | None = None
    """Once a round, beside all ways."""
    turn_of_server: Callable[[Setting, Server], Turn] | None = None
    """Or of the same server, for each way. Without either, another figure of the same turn."""
    figure: Figure = RATE
    echo_in_flight: int | None = None
    """If it is the stream of the echo: how many messages are in flight, by which its mode is known."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server is started with. Cases of the same serving share servers."""

    arguments: Callable[[Path], list[str]]
    """Models, which are made in a folder, and options."""
    options: tuple[str, ...] = ()
    """Further options, of which only those are passed that the server has."""
    needs: str = ""
    """An option without which a server cannot be measured; empty if any can."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    title: str
    serving: Serving
    turn: Callable[[Setting, Server], Turn]
    figure: Figure = RATE
    reference: Reference | None = None
    bound: Bound = NO_BOUND
    """Of the figure over the reference's."""
    compiled: Bound = NO_BOUND
    """Of the figure of compiled code over that of pure Python."""
    earlier_server_time: float | None = None
    """The server's processor time a request over the echo's, before the event loop polled gRPC itself."""
    server_time: Bound = NO_BOUND
    """Of today's over that."""
    rounds: int = 5
    once: bool = False
    """Whether one round is enough, or all that makes sense."""
    slow: bool = False
    """Only measured if it is named, or with --long."""
    needs: Callable[[], bool] = field(default=lambda: True)
    """Whether what it needs is there."""
