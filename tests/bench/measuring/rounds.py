"""Rounds: a turn of each way and of the reference, one after the other, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
    """Measure a case with each server. Each round begins with another one, as the first turn is not like the others.

    A way whose turn fails is left out of that round.
    """
    measured = {server.way.name: Measured(case, server.way.name, asked=rounds) for server in servers}
    for number in range(rounds):
        say(f"{case.title}: round {number + 1} of {rounds}")
        noise.sample()
        try:
            shared = case.reference.turn(setting) if case.reference and case.reference.turn else None
        except TurnFailed as failed:
            for each in measured.values():
                each.failure = f"{case.reference.title if case.reference else ''}: {failed}"
            continue
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            each = measured[server.way.name]
            try:
                each.rounds[number] = _round(case, server, setting, shared, noise.speed)
            except TurnFailed as failed:
                each.failure = str(failed)
    noise.sample()
    return list(measured.values())


def _round(case: Case, server: Server, setting: Setting, shared: Turn | None, speed: float) -> Round:
    turn, reference = case.turn(setting, server), case.reference
    if reference is None:
        return Round(turn, None, None)
    if reference.turn_of_server is not None:
        return Round(turn, reference.turn_of_server(setting, server), None)
    if shared is None:
        return Round(turn, turn, None)
    in_flight = reference.echo_in_flight
    return Round(turn, shared, mode_of(shared, in_flight, speed) if in_flight is not None else None)
