"""Lets go of the memory that reading a mapped file takes. Pure."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy.typing as npt


def release(column: npt.NDArray[Any]) -> None:
    """Drop what was read of a column that is a mapped file; it is read again when it is needed.

    Otherwise, what was read counts as memory of this process until memory is short.
    """
    base: Any = column
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and sys.platform == "linux":
        base.madvise(mmap.MADV_DONTNEED)
