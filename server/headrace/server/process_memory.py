"""How much memory the process may have, how much it has, and a ceiling beyond which allocations fail."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path

from headrace.server.cgroups import cgroup_folders, read_text
from headrace.wire.memory import PAGE_BYTES

_NO_LIMIT = 1 << 60
"""A cgroup of version 1 without a limit has one near 2^63."""


def available_bytes(root: Path = Path("/")) -> int:
    """The memory of the machine, or less if a cgroup of the process, of version 1 or 2, allows less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_cgroup_limits(root)])


def _cgroup_limits(root: Path) -> list[int]:
    limits: list[int] = []
    for folder, version in cgroup_folders(root, "memory"):
        text = read_text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).strip()
        if text.isdecimal() and 0 < int(text) < _NO_LIMIT:
            limits.append(int(text))
    return limits


def mapped_bytes() -> int:
    """What RLIMIT_DATA counts: the private memory that the process may write to. 0 on a system that does not tell."""
    file = _statm()
    return int(os.pread(file, 256, 0).split()[5]) * PAGE_BYTES if file is not None else 0


@cache
def _statm() -> int | None:
    """The file stays open: the memory must not get out of sight when clients have taken all descriptors."""
    with suppress(OSError):
        return os.open("/proc/self/statm", os.O_RDONLY)
    return None


def set_ceiling(nbytes: int | None) -> None:
    """Let allocations fail that would map more than this many bytes; None for no such bound."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = resource.RLIM_INFINITY if nbytes is None else nbytes
    if hard != resource.RLIM_INFINITY and not 0 <= limit <= hard:
        limit = hard
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
