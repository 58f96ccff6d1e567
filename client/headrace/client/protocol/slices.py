"""Slices along the leading axes: as applications write them, and dividing large tensors. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import SupportsIndex

import numpy as np

Pair = tuple[SupportsIndex, SupportsIndex]
SliceLike = Pair | Sequence[Pair]
"""One `(start, stop)`, or a sequence with one for each leading axis."""
Slices = tuple[tuple[int, int], ...]


def as_slices(given: SliceLike | None) -> Slices:
    """The slices of each leading axis. Raises TypeError or ValueError unless given a pair or a sequence of pairs."""
    if given is None or not len(given):
        return ()
    pairs = np.asarray(given)
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"a slice is a pair of integers or a sequence of such pairs, not {given!r}")
    if pairs.ndim not in (1, 2) or pairs.shape[-1] != 2:
        raise ValueError(f"a slice is (start, stop) or a sequence of such pairs, not {given!r}")
    return tuple((start, stop) for start, stop in pairs.reshape(-1, 2).tolist())


def compose(outer: Slices, inner: Slices) -> Slices:
    """The slice `inner` of the slice `outer`, as one slice of the whole tensor."""
    starts = [start for start, _ in outer] + [0] * (len(inner) - len(outer))
    moved = zip(starts, inner, strict=False)
    return (
        *((base + start, base + stop) for base, (start, stop) in moved),
        *outer[len(inner) :],
    )


def pieces(shape: Sequence[int], itemsize: int, max_bytes: int) -> Iterator[Slices]:
    """Divide a tensor into slices of at most `max_bytes`, in the order of its memory.

    `max_bytes` is at least `itemsize`. A slice holds whole rows of the first axis whose rows fit, and has length one
    along the axes before it.
    """
    axis = 0
    while itemsize * math.prod(shape[axis + 1 :]) > max_bytes:
        axis += 1
    rows = max_bytes // max(1, itemsize * math.prod(shape[axis + 1 :]))
    for index in np.ndindex(*shape[:axis]):
        leading = tuple((i, i + 1) for i in index)
        for start in range(0, shape[axis], rows):
            yield (*leading, (start, min(start + rows, shape[axis])))
