"""Forks: gRPC does not survive one that comes while it is in use, and says nothing about it."""

from __future__ import annotations

import os
import weakref

_channels = 0
"""gRPC's threads run while there is a channel. They are missing in what is forked meanwhile."""
_forks = 0
"""How many forks with gRPC in use lie between the start of the program and this process."""


def mark_in_use(channel: object) -> None:
    """gRPC is in use as long as this object lives."""
    global _channels
    _channels += 1
    weakref.finalize(channel, _unmark).atexit = False


def _unmark() -> None:
    global _channels
    _channels -= 1


def forks() -> int:
    """A number that differs between a process and its forked children. Costs less than asking for the process id."""
    return _forks


def check_not_forked() -> None:
    """Raises RuntimeError in a process that was forked while gRPC was in use."""
    if _forks:
        raise RuntimeError(
            "gRPC was in use when this process was forked, and works only in the parent: start processes with "
            "multiprocessing's 'spawn' or 'forkserver', or close all connections before the fork"
        )


def check_same_process(origin: int, what: str) -> None:
    """Raises RuntimeError unless this process opened the connection; `origin` is what `forks` said then."""
    if origin != _forks:
        raise RuntimeError(f"{what} belongs to the process that this one was forked from, and works only there")


def _after_fork() -> None:
    global _forks
    if _channels:
        _forks += 1


os.register_at_fork(after_in_child=_after_fork)

# gRPC for Python says that its support of forks is off unless this asks for it, but its core has it on, and crashes one
# forked child of ten while a connection is open. The core reads this when gRPC is imported, so this module comes first.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
