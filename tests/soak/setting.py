"""Where and how large an experiment is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.e2e.serving import F32, Served

SETTLE_SECONDS = 12
"""After so long without work, or twice as long, the server has given back what was free."""
PATIENCE = 120
"""Seconds that a client waits which only wants to know the end: much of it goes to whatever else the machine does."""
_numbers = count()
WRONG = ("Traceback", "never retrieved", " ERROR ", "incident")
"""What no log may have, whatever clients do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`share` is the part of the full size, `folder` for models and logs."""

    folder: Path
    share: float = 1.0
    transport: str = os.environ.get("HEADRACE_TRANSPORT", "auto")

    def of(self, full: int) -> int:
        """The share of a number, at least 1."""
        return max(1, round(full * self.share))

    @contextmanager
    def serving(
        self, *arguments: str | Path, module: str = "headrace.server", env: dict[str, str] | None = None
    ) -> Iterator[Served]:
        """A server, which must end well, and say of nothing that it was wrong."""
        log = self.folder / f"server-{next(_numbers)}.log"
        options = [*map(str, arguments), f"--transport={self.transport}", F32]
        with Served(options, log, {**os.environ, **(env or {})}, module=module) as served:
            yield served
            assert served.stop() == 0
            found = [line for line in served.log.splitlines() if any(wrong in line for wrong in WRONG)]
            assert not found, found[:5]


def descriptors(pid: int) -> int:
    """The open files and connections of a process."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def threads(pid: int) -> Sequence[Path]:
    return [*Path(f"/proc/{pid}/task").iterdir()]
