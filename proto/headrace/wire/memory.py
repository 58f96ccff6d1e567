"""The memory of large messages and tensors: allocated once, reused, and returned to the system when idle."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

_LARGEST = (32 << 20) - (64 << 10)
"""Bytes of the largest block that glibc learns from."""


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
