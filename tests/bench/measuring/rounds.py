"""Rounds: a turn of each way and of the reference, one after the other, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from tests.bench.cases.case import Case, Setting
from tests.bench.measuring.echo_mode import EchoMode, mode_of
from tests.bench.measuring.noise import Noise
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.serving.server import Server


@dataclass(frozen=True, slots=True)
class Round:
    turn: Turn
    reference: Turn | None
    echo: EchoMode | None


@dataclass(slots=True)
class Measured:
    """A case with one way of serving."""

    case: Case
    way: str
    rounds: dict[int, Round] = field(default_factory=dict)
    """By number, so that those of two ways can be paired."""
    asked: int = 0
    """How many rounds there should be."""
    failure: str = ""
    """Why a round is missing; empty if none is."""
    lacks: str = ""
    """The option that the case needs and this server does not have; empty if it has all."""

    @property
    def missing(self) -> str:
        """What is said of missing rounds; empty if none is missing."""
        if self.lacks:
            return f"this server has no {self.lacks}"
        if not self.failure:
            return ""
        return f"{self.asked - len(self.rounds)} of {self.asked} rounds failed: {self.failure}"


def measure(
    case: Case,
    servers: Sequence[Server],
    setting: Setting,
    noise: Noise,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Measure a case with each server. A way whose turn fails, or whose reference's, is left out of that round."""
    measured = {server.way.name: Measured(case, server.way.name, asked=rounds) for server in servers}
    for number in range(rounds):
        say(f"{case.title}: round {number + 1} of {rounds}")
        noise.sample()
        turns = _turns(case, servers, setting, backwards=number % 2 == 1)
        for way, each in measured.items():
            try:
                each.rounds[number] = _round(case, way, turns, noise.speed)
            except TurnFailed as failed:
                each.failure = str(failed)
    noise.sample()
    return list(measured.values())


Seat = tuple[str, Literal["ours", "reference"]]
"""Who takes a turn: the name of a way, or "" for a reference beside all of them."""


def _turns(
    case: Case, servers: Sequence[Server], setting: Setting, *, backwards: bool
) -> dict[Seat, Turn | TurnFailed]:
    """A turn of each. Every other round goes backwards, so that a machine that becomes slower favours nobody."""
    seats: dict[Seat, Callable[[], Turn]] = {}
    reference = case.reference
    if reference is not None and reference.turn is not None:
        seats["", "reference"] = partial(reference.turn, setting)
    for server in servers:
        seats[server.way.name, "ours"] = partial(case.turn, setting, server)
        if reference is not None and reference.turn_of_server is not None:
            seats[server.way.name, "reference"] = partial(reference.turn_of_server, setting, server)
    order = list(seats.items())
    return {seat: _taken(take) for seat, take in (reversed(order) if backwards else order)}


def _taken(take: Callable[[], Turn]) -> Turn | TurnFailed:
    try:
        return take()
    except TurnFailed as failed:
        return failed


def _round(case: Case, way: str, turns: Mapping[Seat, Turn | TurnFailed], speed: float) -> Round:
    """Raises TurnFailed."""
    turn = _done(turns[way, "ours"])
    if case.reference is None:
        return Round(turn, None, None)
    other = turns.get((way, "reference")) or turns.get(("", "reference")) or turn
    reference, in_flight = _done(other), case.reference.echo_in_flight
    return Round(turn, reference, mode_of(reference, in_flight, speed) if in_flight is not None else None)


def _done(turn: Turn | TurnFailed) -> Turn:
    if isinstance(turn, TurnFailed):
        raise turn
    return turn
