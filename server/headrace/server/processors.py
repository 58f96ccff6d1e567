"""How many processors the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from headrace.server.cgroups import cgroup_folders, read_text

_most: list[int] = []


def limit_processors(most: int) -> None:
    """This process is to use no more than these, because others are to use the rest."""
    _most[:] = [most]


def available_processors(root: Path = Path("/")) -> int:
    """Those that the process may be scheduled on, or fewer if its cgroups allow it less time; at least 1."""
    return min([scheduled_processors(), *_quotas(root), *_most])


def scheduled_processors() -> int:
    """Those that the process may be scheduled on, at least 1. The runtime looks at nothing else."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> list[int]:
    """The limits of processor time, in processors, rounded up."""
    quotas: list[int] = []
    for folder, version in cgroup_folders(root, "cpu"):
        if version == 2:
            quota, _, period = read_text(folder / "cpu.max").strip().partition(" ")
        else:
            quota, period = (read_text(folder / f"cpu.cfs_{each}_us").strip() for each in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):  # neither "max" nor -1
            quotas.append(math.ceil(int(quota) / int(period)))
    return quotas
