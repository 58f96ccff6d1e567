"""How much memory the process may have, and a ceiling: beyond it the runtime fails, and the kernel need not act."""

from __future__ import annotations

import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIN_SPARE_BYTES = 512 << 20
"""Memory that the process may map beside the budget, at least: for threads, and for what the runtime computes with."""
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


class Ceiling:
    """Of what the process may map: what models have taken, the budget, and half as much again or MIN_SPARE_BYTES.

    Beyond that an allocation fails. The runtime raises then, and the request that needs so much fails; without a
    ceiling the kernel would end the process when the memory is written to.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._active = False
        self._lifted = 0

    def apply(self) -> None:
        """The models have been loaded: what the process has mapped so far is theirs."""
        with self._lock:
            self._active = True
            self._set()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """While a model is loaded, by any thread, the process may map whatever it needs."""
        with self._lock:
            self._lifted += 1
            if self._active:
                _set_limit(resource.RLIM_INFINITY)
        try:
            yield
        finally:
            with self._lock:
                self._lifted -= 1
                self._set()

    def _set(self) -> None:
        mapped = re.search(r"VmData:\s+(\d+) kB", _read(Path("/proc/self/status")))
        if self._active and not self._lifted and mapped is not None:
            _set_limit((int(mapped[1]) << 10) + self._budget + max(self._budget // 2, MIN_SPARE_BYTES))

    def __repr__(self) -> str:
        return f"<Ceiling for a budget of {self._budget} bytes>"


def _set_limit(nbytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY and not 0 <= nbytes <= hard:
        nbytes = hard
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes, hard))


def _read(file: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    with suppress(OSError):
        return file.read_text()
    return ""
