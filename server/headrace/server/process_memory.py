"""How much memory the process may have, how much it has, and a ceiling beyond which allocations fail."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from headrace.wire.memory import PAGE_BYTES

_NO_LIMIT = 1 << 60
"""A cgroup of version 1 without a limit has one near 2^63."""


def available_bytes(root: Path = Path("/")) -> int:
    """The memory of the machine, or less if a cgroup of the process, of version 1 or 2, allows less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_cgroup_limits(root)])


def _cgroup_limits(root: Path) -> list[int]:
    """The limits of the cgroups that the process is in. A container sees its own as the outermost one."""
    limits: list[int] = []
    mounts: tuple[str, ...]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts, name = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max"
        elif "memory" in controllers.split(","):
            mounts, name = ("sys/fs/cgroup/memory",), "memory.limit_in_bytes"
        else:
            continue
        for mount in mounts:
            inner = root / mount / path.lstrip("/")
            for folder in (inner, *inner.parents):
                text = _read(folder / name).strip()
                if text.isdecimal() and 0 < int(text) < _NO_LIMIT:
                    limits.append(int(text))
                if folder == root / mount:
                    break
    return limits


def mapped_bytes() -> int:
    """What RLIMIT_DATA counts: the private memory that the process may write to. 0 on a system that does not tell."""
    pages = _read(Path("/proc/self/statm")).split()
    return int(pages[5]) * PAGE_BYTES if pages else 0


def set_ceiling(nbytes: int | None) -> None:
    """Let allocations fail that would map more than this many bytes; None for no such bound."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = resource.RLIM_INFINITY if nbytes is None else nbytes
    if hard != resource.RLIM_INFINITY and not 0 <= limit <= hard:
        limit = hard
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _read(file: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    with suppress(OSError):
        return file.read_text()
    return ""
