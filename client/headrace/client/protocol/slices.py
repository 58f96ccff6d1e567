"""Slices along the leading axes: as users write them, and cutting what is too large. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import SupportsIndex

import numpy as np

Pair = tuple[SupportsIndex, SupportsIndex]
SliceLike = Pair | Sequence[Pair]
"""One (start, stop), or one for each leading axis."""
Slices = tuple[tuple[int, int], ...]


def as_slices(given: SliceLike | None) -> Slices:
    """Raises TypeError or ValueError for what is neither a pair nor a sequence of pairs."""
    if given is None or not len(given):
        return ()
    pairs = np.asarray(given)
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"a slice is a pair of integers or a sequence of such, not {given!r}")
    if pairs.ndim not in (1, 2) or pairs.shape[-1] != 2:
        raise ValueError(f"a slice is (start, stop) or a sequence of such, not {given!r}")
    return tuple((start, stop) for start, stop in pairs.reshape(-1, 2).tolist())


def within(outer: Slices, inner: Slices) -> Slices:
    """A slice of a slice, as a slice of the whole."""
    starts = [start for start, _ in outer] + [0] * (len(inner) - len(outer))
    moved = zip(starts, inner, strict=False)
    return (
        *((base + start, base + stop) for base, (start, stop) in moved),
        *outer[len(inner) :],
    )


def cut(shape: Sequence[int], itemsize: int, most_bytes: int) -> Iterator[Slices]:
    """Slices of at most `most_bytes` that cover a tensor once, in the order of its memory.

    `most_bytes` is at least one element. Whole rows of the first axis whose rows fit; of the axes
    before it one element at a time.
    """
    axis = 0
    while itemsize * math.prod(shape[axis + 1 :]) > most_bytes:
        axis += 1
    rows = most_bytes // max(1, itemsize * math.prod(shape[axis + 1 :]))
    for index in np.ndindex(*shape[:axis]):
        leading = tuple((i, i + 1) for i in index)
        for start in range(0, shape[axis], rows):
            yield (*leading, (start, min(start + rows, shape[axis])))
