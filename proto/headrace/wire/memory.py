"""Memory of large messages and tensors: taken once, used again, given back when idle."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

_LARGEST = (32 << 20) - (64 << 10)
"""Bytes: the C library learns from no larger block."""


@cache
def keep_freed_memory() -> None:
    """Have the C library keep large blocks that are freed, up to 64 MiB, for the next ones. Does so once.

    glibc gives them back to the system and gets them again page by page, which takes longer than to fill them: messages
    of 4 MiB take nearly twice as long then. It learns otherwise from what is freed: up to twice the largest block is
    kept, and this is one (mallopt(3), M_MMAP_THRESHOLD). Nothing is written to it, so it costs nothing. With another C
    library nothing happens.
    """
    np.empty(_LARGEST, np.uint8)


def give_back_memory() -> None:
    """Give what is kept back to the system. Takes milliseconds; with another C library than glibc nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
