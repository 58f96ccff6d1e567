"""What an experiment has counted, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """A number, and its bound if there is one."""

    what: str
    value: float
    unit: str = ""
    bound: str = ""
    holds: bool = True

    def __str__(self) -> str:
        number = f"{self.value:,.0f}" if self.value == int(self.value) else f"{self.value:,.3g}"
        return f"{number} {self.unit}".rstrip()


@dataclass(slots=True)
class Findings:
    """The findings of one experiment, in the order in which they were added."""

    rows: list[Finding] = field(default_factory=list)

    def count(self, what: str, value: float, unit: str = "") -> None:
        self.rows.append(Finding(what, value, unit))

    def equal(self, what: str, value: float, wanted: float, unit: str = "") -> None:
        self.rows.append(Finding(what, value, unit, f"= {wanted:,}", value == wanted))

    def below(self, what: str, value: float, bound: float, unit: str = "") -> None:
        self.rows.append(Finding(what, value, unit, f"< {bound:,g}", value < bound))

    def at_least(self, what: str, value: float, bound: float, unit: str = "") -> None:
        self.rows.append(Finding(what, value, unit, f">= {bound:,}", value >= bound))

    def broken(self) -> list[Finding]:
        return [each for each in self.rows if not each.holds]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.rows)

    def check(self) -> None:
        """AssertionError if a bound is broken."""
        assert not self.broken(), "\n".join(f"{each.what}: {each}, not {each.bound}" for each in self.broken())

    def __str__(self) -> str:
        return "\n".join(f"{each.what}: {each}" for each in self.rows)

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(each) for each in self.rows]
