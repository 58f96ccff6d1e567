"""A ratio that a run has found."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.measuring.bounds import Bound, Verdict
from tests.bench.measuring.spread import Spread


@dataclass(frozen=True, slots=True)
class Ratio:
    name: str
    """The name of the case, and of what is compared if that is not its figure with its reference."""
    title: str
    way: str
    spread: Spread
    bound: Bound
    rounds: int
    """How many rounds count."""
    slow_echo: bool = False
    """Whether rounds count in which the echo was in its slow mode."""
    incomplete: bool = False
    """Whether rounds are missing because they failed."""

    @property
    def verdict(self) -> Verdict:
        return self.bound.verdict(self.spread.median)

    @property
    def close(self) -> bool:
        return self.bound.is_close(self.spread)

    @property
    def notes(self) -> list[str]:
        """What else is to be known before the verdict is believed."""
        known = {"close": self.close, "echo slow": self.slow_echo, "rounds failed": self.incomplete}
        return [note for note, applies in known.items() if applies]
