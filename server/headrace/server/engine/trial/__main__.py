"""The program of the child process: it tries one model, and says what it does and what it has found."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Read a TrialRequest from standard input, and write the lines of a TrialReport to standard output.

    Exits with 0 when a report is complete. The interpreter does not clean up, because a run may be in progress.
    """
    # What the runtime prints must not get among the lines.
    results = os.dup(1)
    os.dup2(2, 1)
    _confine()
    # Imported here, when the limits are in force, and before there is a request: a process may be started in advance.
    from headrace.server.engine.trial.model import try_model

    request = sys.stdin.buffer.read()
    if request:
        try_model(request, partial(os.write, results))
    os._exit(1)  # the parent has ended


def _confine() -> None:
    """End with the parent, leave no core dump, and be what the kernel ends first when memory is short."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    available = _available_bytes()
    if available:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (available, available))


def _available_bytes() -> int:
    """The memory that the machine and the cgroup still have; 0 if that is unknown. More would end other processes."""
    found: list[int] = []
    with suppress(OSError, ValueError, KeyError):
        found.append(_numbers("/proc/meminfo")["MemAvailable:"] << 10)
    with suppress(OSError, ValueError, KeyError), open("/sys/fs/cgroup/memory.max") as most:
        used = _numbers("/sys/fs/cgroup/memory.stat")
        found.append(max(1, int(most.read()) - used["anon"] - used["shmem"]))
    return min(found, default=0)


def _numbers(file: str) -> dict[str, int]:
    """The first number of each line, by the first word."""
    with open(file) as lines:
        words = (line.split() for line in lines)
        return {each[0]: int(each[1]) for each in words if len(each) > 1}


if __name__ == "__main__":
    main()
