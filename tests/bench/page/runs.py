"""The runs that a page shows, and what it shows of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.bench.history.entry import Entry


@dataclass(frozen=True, slots=True)
class Shown:
    runs: Sequence[Entry]
    """Those on the machine of the newest one, the oldest first."""
    elsewhere: int
    """How many were on other machines: their figures are not to be compared."""

    @property
    def newest(self) -> Entry:
        return self.runs[-1]

    @property
    def ways(self) -> list[str]:
        """Those of the newest run, then others."""
        return list(dict.fromkeys(way for run in reversed(self.runs) for way in run["ways"]))

    @property
    def ratios(self) -> dict[str, str]:
        """The title of each ratio by its name; those of the newest run first."""
        return {each["name"]: each["title"] for run in self.runs for each in run["ratios"]} | {
            each["name"]: each["title"] for each in self.newest["ratios"]
        }

    def having(self, ratio: str) -> list[Entry]:
        """The runs that have a ratio, of any way."""
        return [run for run in self.runs if any(each["name"] == ratio for each in run["ratios"])]


def points(runs: Sequence[Entry], ratio: str, way: str) -> list[tuple[int, Entry]]:
    """The ratio of each run that has it, with the number of the run."""
    return [
        (at, each)
        for at, run in enumerate(runs)
        for each in run["ratios"]
        if (each["name"], each["way"]) == (ratio, way)
    ]


def server_times(runs: Sequence[Entry], ratio: str, way: str) -> list[tuple[int, float]]:
    """The server's processor time for a request in the case of a ratio, in us, of each run that knows it."""
    return [
        (at, each["server_us"])
        for at, run in enumerate(runs)
        for each in run["figures"]
        if (each["case"], each["way"]) == (ratio, way) and each.get("server_us") is not None
    ]


def shown(history: Sequence[Entry]) -> Shown:
    """What to show of a history with at least one run."""
    machine = history[-1]["machine"]
    same = [run for run in history if run["machine"] == machine]
    return Shown(same, len(history) - len(same))


def label(run: Entry) -> str:
    """A run's commit and when it was."""
    moment = datetime.fromisoformat(run["date"])
    return f"{run['commit'] or 'no commit'}, {moment:%-d %b %H:%M}"


def judged(run: Entry) -> list[dict[str, Any]]:
    """The ratios of a run's first way, and those between builds, of which something is demanded."""
    first = next(iter(run["ways"]))
    return [each for each in run["ratios"] if each["verdict"] and (each["way"] == first or ":compiled" in each["name"])]
