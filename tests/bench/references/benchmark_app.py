"""The limit of the runtime: `benchmark_app` of the installed OpenVINO."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.cases.case import Setting
from tests.bench.measuring.turn import Turn, TurnFailed

REQUESTS_IN_FLIGHT = ("", "4", "16")
"""Values of -nireq that are tried at first, of which the best one counts. Empty: its own choice."""
PATIENCE_SECONDS = 120.0
LONGER = 3
"""Its turns are so many times as long as others, as it begins cold."""


class BenchmarkApp:
    """Inferences per second with `-hint throughput`; `model` finds the file in the folder of a run."""

    def __init__(self, model: Callable[[Path], Path], *options: str) -> None:
        self._model = model
        self._options = options
        self._best: str | None = None

    def __call__(self, setting: Setting) -> Turn:
        if self._best is None:
            tried = {each: self._turn(setting, each) for each in REQUESTS_IN_FLIGHT}
            self._best = max(tried, key=lambda each: tried[each].rate)
        return self._turn(setting, self._best)

    def _turn(self, setting: Setting, in_flight: str) -> Turn:
        seconds = max(1, round(setting.seconds * LONGER))
        command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(self._model(setting.folder))]
        command += ["-d", "CPU", "-hint", "throughput", "-infer_precision", "f32", "-t", str(seconds), *self._options]
        command += ["-nireq", in_flight] if in_flight else []
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TurnFailed(f"benchmark_app: {error}") from None
        return turn_of(ended.stdout.splitlines())


def turn_of(lines: Sequence[str]) -> Turn:
    """The turn that it prints. Raises TurnFailed."""
    found = {match[1]: float(match[2]) for line in lines if (match := re.search(r"(Count|Duration):\s+([\d.]+)", line))}
    if not {"Count", "Duration"} <= found.keys() or not found["Duration"]:
        raise TurnFailed(f"benchmark_app has ended with: {lines[-1] if lines else 'nothing'}")
    return Turn(round(found["Count"]), found["Duration"] / 1e3)
