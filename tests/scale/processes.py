"""The workers of a server, as the system sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SECONDS = 60.0


def workers_of(parent: int) -> dict[int, int]:
    """The process ids of the workers, by number of the descriptor that each has got: those that were started first
    come first."""
    return dict(sorted((_started(pid), pid) for pid in _children(parent) if _is_worker(pid)))


def pids_of(parent: int) -> list[int]:
    """The process ids of the workers, in the order of their starts."""
    return list(workers_of(parent).values())


def wait_until(holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> float:
    """Wait until something holds. Returns how many seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds, f"after {seconds:g} s: not {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def lives(pid: int) -> bool:
    """Whether a process is there, and has not ended."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(folder.name))
    return found


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) * 100_000 + pid % 100_000


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"headrace.server.workers" in Path(f"/proc/{pid}/cmdline").read_bytes() and lives(pid)
    return False
