"""What a ratio must reach, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tests.bench.measuring.spread import Spread


class Verdict(StrEnum):
    AIM = "aim reached"
    REACHED = "reached"
    MISSED = "missed"
    NO_BOUND = ""
    """Nothing is demanded: the figure is there to be looked at."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Lower bounds of a ratio, or upper bounds if `less`. None: not demanded."""

    must: float | None = None
    aim: float | None = None
    less: bool = False

    def verdict(self, ratio: float) -> Verdict:
        if self.must is None:
            return Verdict.NO_BOUND
        if not self._met(ratio, self.must):
            return Verdict.MISSED
        return Verdict.AIM if self.aim is not None and self._met(ratio, self.aim) else Verdict.REACHED

    def is_close(self, ratio: Spread) -> bool:
        """Whether another run may well come to the opposite verdict: `must` lies within the middle half of rounds."""
        return self.must is not None and ratio.first_quartile <= self.must <= ratio.third_quartile

    def _met(self, ratio: float, bound: float) -> bool:
        return ratio <= bound if self.less else ratio >= bound


NO_BOUND = Bound()
