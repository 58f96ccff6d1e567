"""What one turn measures, and the figures that a case takes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class TurnFailed(Exception):
    """A turn gave no figures; the message says why."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Requests answered in the measured seconds, by one server and one client (of one or several processes)."""

    requests: int
    seconds: float
    p50: float | None = None
    """Of a request's time, in seconds, where the client took it."""
    p99: float | None = None
    server_seconds: float | None = None
    """Processor time of the server meanwhile."""
    client_seconds: float | None = None
    """Processor time of all processes of the client meanwhile."""
    beside: dict[str, float] = field(default_factory=dict)
    """Figures that only this kind of turn has."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def server_us(self) -> float | None:
        """Microseconds of the server's processor time for a request."""
        return _each(self.server_seconds, self.requests)

    @property
    def client_us(self) -> float | None:
        return _each(self.client_seconds, self.requests)


@dataclass(frozen=True, slots=True)
class Figure:
    """What counts of a turn. `less`: lower is better."""

    unit: str
    of: Callable[[Turn], float]
    less: bool = False


def _each(seconds: float | None, requests: int) -> float | None:
    return None if seconds is None else seconds / requests * 1e6


def _quantile(name: str, seconds: float | None) -> float:
    if seconds is None:
        raise TurnFailed(f"the client has not measured a {name}")
    return seconds * 1e6


def _server_us(turn: Turn) -> float:
    if turn.server_us is None:
        raise TurnFailed("the processor time of the server is not known")
    return turn.server_us


RATE = Figure("/s", lambda turn: turn.rate)
P50 = Figure("us", lambda turn: _quantile("p50", turn.p50), less=True)
P99 = Figure("us", lambda turn: _quantile("p99", turn.p99), less=True)
SERVER_TIME = Figure("us", _server_us, less=True)


def beside(name: str, unit: str = "", *, less: bool = False) -> Figure:
    """One of the further figures of a turn."""
    return Figure(unit, lambda turn: turn.beside[name], less)
