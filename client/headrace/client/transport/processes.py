"""Forks: gRPC does not survive one after it was used, and says nothing about it."""

from __future__ import annotations

import os

_used = False
"""gRPC's threads and locks outlive its channels: of the children forked right after the last one closed, 3 % hung."""
_forks = 0
"""How many forks after a use of gRPC lie between the start of the program and this process."""


def mark_used() -> None:
    """From now on, what is forked from this process cannot use gRPC."""
    global _used
    _used = True


def forks() -> int:
    """A number that differs between a process and its forked children. Costs less than asking for the process id."""
    return _forks


def check_not_forked() -> None:
    """Raises RuntimeError in a process that was forked after gRPC was used."""
    if _forks:
        raise RuntimeError(
            "this process was forked from one that had used gRPC, which works only in the parent: start processes with "
            "multiprocessing's 'spawn' or 'forkserver', or fork before the first connection is used"
        )


def check_same_process(origin: int, what: str) -> None:
    """Raises RuntimeError unless this process opened the connection; `origin` is what `forks` said then."""
    if origin != _forks:
        raise RuntimeError(f"{what} belongs to the process that this one was forked from, and works only there")


def _after_fork() -> None:
    global _forks
    if _used:
        _forks += 1


os.register_at_fork(after_in_child=_after_fork)

# gRPC for Python says that its support of forks is off unless this asks for it, but its core has it on, and crashes one
# forked child of ten while a connection is open. The core reads this when gRPC is imported, so this module comes first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
