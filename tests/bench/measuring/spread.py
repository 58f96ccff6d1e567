"""The spread of a figure over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    low: float
    first_quartile: float
    median: float
    third_quartile: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value. Quartiles lie between values, as those of `statistics.quantiles(method="inclusive")`."""
    ordered = sorted(values)
    return Spread(*(_at(ordered, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)))


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
