"""Slices along the leading axes: as applications write them, and dividing large tensors. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import SupportsIndex

import numpy as np

Pair = tuple[SupportsIndex, SupportsIndex]
Index = slice | SupportsIndex | EllipsisType
SliceLike = Pair | Sequence[Pair] | Index | tuple[Index, ...]
"""One `(start, stop)`, a sequence with one for each leading axis, or what NumPy takes: `np.s_[0:10, :5]`."""
Slices = tuple[tuple[int, int], ...]


def as_slices(given: SliceLike | None) -> Slices | None:
    """The slices of each leading axis; None for an index of NumPy, which depends on the shape (`resolve`).

    Raises TypeError or ValueError unless given a pair, a sequence of pairs, or an index that `resolve` takes.
    """
    if given is None:
        return ()
    if not isinstance(given, Sequence | np.ndarray):
        _check_index((given,))
        return None
    if isinstance(given, tuple) and any(isinstance(each, slice | EllipsisType) for each in given):
        _check_index(given)
        return None
    if not len(given):
        return ()
    pairs = np.asarray(given)
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"a slice is a pair of integers or a sequence of such pairs, not {given!r}")
    if pairs.ndim not in (1, 2) or pairs.shape[-1] != 2:
        raise ValueError(f"a slice is (start, stop) or a sequence of such pairs, not {given!r}")
    return tuple((start, stop) for start, stop in pairs.reshape(-1, 2).tolist())


def resolve(given: SliceLike, shape: Sequence[int]) -> tuple[Slices, tuple[int, ...]]:
    """The slices that an index of NumPy stands for in a tensor of this shape, and the axes that it drops.

    Raises IndexError for an integer outside its axis and for more axes than there are, as NumPy does.
    """
    index = given if isinstance(given, tuple) else (given,)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = len(shape) - len(index) + 1
        index = (*index[:at], *[slice(None)] * whole, *index[at + 1 :])
    if len(index) > len(shape):
        raise IndexError(f"{given!r} has {len(index)} axes; the output has {len(shape)}")
    slices, dropped = [], []
    for axis, (each, size) in enumerate(zip(index, shape, strict=False)):
        if isinstance(each, slice):
            start, stop, _ = each.indices(size)
            slices.append((start, max(start, stop)))
        else:
            at = operator.index(each)
            if not -size <= at < size:
                raise IndexError(f"index {at} is outside axis {axis} of size {size}")
            slices.append((at % size, at % size + 1))
            dropped.append(axis)
    return tuple(slices), tuple(dropped)


def _check_index(index: tuple[object, ...]) -> None:
    for each in index:
        if isinstance(each, slice):
            if each.step not in (None, 1):
                raise ValueError(f"{each!r} has a step: fetch without it, and slice the array")
        elif not isinstance(each, SupportsIndex | EllipsisType) or isinstance(each, bool):
            raise TypeError(f"an axis takes a slice or an integer, not {each!r}")
    if index.count(Ellipsis) > 1:
        raise ValueError("an index has at most one ellipsis")


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
