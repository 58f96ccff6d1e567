"""The memory of large messages and tensors: allocated once, reused, and returned to the system when idle."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import numpy as np

_LARGEST = (32 << 20) - (64 << 10)
"""Bytes of the largest block that glibc learns from."""
_MALLINFO2 = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
PAGE_BYTES = 4096 if sys.platform == "win32" else os.sysconf("SC_PAGE_SIZE")


@cache
def keep_freed_memory() -> None:
    """Make the C library keep large freed blocks, up to 64 MiB, for later allocations. Only the first call acts.

    By default glibc returns each large block to the system and gets the next one back page by page, which takes longer
    than filling it: messages of 4 MiB take nearly twice as long. glibc adapts to the blocks that a program frees and
    then keeps up to twice the largest one (mallopt(3), M_MMAP_THRESHOLD), so this allocates and frees a large block.
    Nothing is written to the block, so it costs nothing. With another C library nothing happens.
    """
    np.empty(_LARGEST, np.uint8)


def give_back_memory() -> None:
    """Return freed memory to the system. Takes milliseconds. With a C library other than glibc nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in _MALLINFO2]


def _mallinfo2() -> _Mallinfo2 | None:
    """What the C library tells about the memory of all threads; None if it does not."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = _Mallinfo2
    found: _Mallinfo2 = mallinfo2()
    return found


def free_bytes() -> int:
    """The freed memory that the C library keeps, some of which may be with the system; 0 if it does not tell."""
    found = _mallinfo2()
    return 0 if found is None else int(found.fordblks)


def used_bytes() -> int:
    """What is allocated, and what is in memory of files that are mapped; all that the process has if this is unknown.

    Unlike `resident_bytes` it does not change with what the C library keeps, so two values can be compared.
    """
    found = _mallinfo2()
    if found is None:
        return resident_bytes()
    return int(found.uordblks + found.hblkhd) + _statm(2)


def resident_bytes() -> int:
    """The memory that the process has at this moment; 0 on a system that does not tell."""
    return _statm(1)


def _statm(index: int) -> int:
    """One of the numbers of proc_pid_statm(5) in bytes; 0 on a system that does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[index]) * PAGE_BYTES
    except OSError:
        return 0
