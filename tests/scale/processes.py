"""The workers of a server, as the system sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.waiting import LIMIT_SECONDS, until


def pids_of(parent: int) -> list[int]:
    """The process ids of the workers, in the order of their starts."""
    return sorted((pid for pid in _children(parent) if _is_worker(pid)), key=lambda pid: (_started(pid), pid))


def wait_until(holds: Callable[[], bool], what: str, seconds: float = LIMIT_SECONDS) -> float:
    """Wait until something holds. Returns how many seconds that took."""
    began = time.monotonic()
    until(holds, lambda: f"after {seconds:g} s: not {what}", seconds)
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
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"headrace.server.workers" in Path(f"/proc/{pid}/cmdline").read_bytes() and lives(pid)
    return False
