"""Finds values by their rank without sorting all of them, in memory that does not grow with their number. Pure.

Values are mapped to whole numbers in the same order, which are counted in bins. The bins that contain a rank that is
looked for are divided into smaller ones, and the values are counted again, until few enough are left to be sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.load.record.samples import Floats

Keys = npt.NDArray[np.uint64]

SORTED_AT_ONCE = 1 << 17
"""So many values are sorted instead of counted."""
BINS = 1 << 19
SIGN = np.uint64(1 << 63)
ALL_BITS = (1 << 64) - 1


class Ranked(NamedTuple):
    key: int
    below: int
    """How many keys are smaller."""


@dataclass(frozen=True, slots=True)
class _Bin:
    """The keys from `start` to below `stop`: `count` of them, with `below` smaller ones."""

    start: int
    stop: int
    below: int
    count: int


def float_keys(values: Floats) -> Keys:
    """Whole numbers in the order of the values."""
    # Of positive numbers, the bits are in the order of the numbers; of negative ones, in the opposite order.
    bits = (values + 0.0).view(np.uint64)
    return np.where((bits & SIGN) != 0, ~bits, bits | SIGN)


def to_float(key: int) -> float:
    """The value of a key."""
    bits = key ^ (1 << 63) if key >> 63 else key ^ ALL_BITS
    return float(np.array([bits], np.uint64).view(np.float64)[0])


@dataclass(frozen=True, slots=True)
class Extent:
    """What is known of values without ranking them."""

    count: int
    total: float
    min: float
    max: float

    @property
    def mean(self) -> float:
        # The mean of equal numbers may be the next float above them.
        return min(max(self.total / self.count, self.min), self.max)


def extent(values: Iterable[Floats]) -> Extent:
    """Of values in chunks."""
    count, total, low, high = 0, 0.0, np.inf, -np.inf
    for chunk in values:
        count, total = count + len(chunk), total + float(chunk.sum())
        low, high = min(low, float(chunk.min(initial=np.inf))), max(high, float(chunk.max(initial=-np.inf)))
    return Extent(count, total, low, high)


def values_at(values: Iterable[Floats], ranks: Sequence[int], whole: Extent) -> list[float]:
    """The values at these ranks, counted from 0, of values that can be iterated over repeatedly."""
    return [to_float(each.key) for each in ranked_values(values, ranks, whole)]


def ranked_values(values: Iterable[Floats], ranks: Sequence[int], whole: Extent) -> list[Ranked]:
    """The keys of the values at these ranks."""
    if not ranks:
        return []
    first, last = (int(key) for key in float_keys(np.array([whole.min, whole.max])))
    return _ranked(_KeysOf(values), ranks, _Bin(first, last + 1, 0, whole.count))


def ranked(keys: Iterable[Keys], ranks: Sequence[int], count: int, stop: int) -> list[Ranked]:
    """The keys at these ranks, counted from 0, of `count` keys below `stop` that can be iterated over repeatedly."""
    return _ranked(keys, ranks, _Bin(0, stop, 0, count)) if ranks else []


def _ranked(keys: Iterable[Keys], ranks: Sequence[int], whole: _Bin) -> list[Ranked]:
    bins = [whole]
    while sum(each.count for each in bins if each.stop - each.start > 1) > SORTED_AT_ONCE:
        bins = _divided(keys, bins, ranks)
    return _from_sorted(keys, bins, ranks)


class _KeysOf:
    def __init__(self, values: Iterable[Floats]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Keys]:
        return map(float_keys, self._values)


def _divided(keys: Iterable[Keys], bins: Sequence[_Bin], ranks: Sequence[int]) -> list[_Bin]:
    """Smaller bins: those within the given ones that contain one of the ranks."""
    parts = max(2, BINS // len(bins))
    starts, stops = _edges(bins)
    widths = [-(-(each.stop - each.start) // parts) for each in bins]
    divisors = np.array(widths, np.uint64)
    counts = np.zeros(parts * len(bins), np.int64)
    for chunk in keys:
        within, inside = _within(chunk, starts, stops)
        offsets = ((inside - starts[within]) // divisors[within]).astype(np.int64)
        np.add.at(counts, within * parts + offsets, 1)
    totals = counts.reshape(len(bins), parts).cumsum(axis=1)
    found: dict[int, _Bin] = {}
    for rank in ranks:
        at = _bin_of(bins, rank)
        whole, total = bins[at], totals[at]
        part = int(np.searchsorted(total, rank - whole.below, "right"))
        start = whole.start + part * widths[at]
        before = int(total[part - 1]) if part else 0
        stop = min(start + widths[at], whole.stop)
        found[start] = _Bin(start, stop, whole.below + before, int(total[part]) - before)
    return [found[start] for start in sorted(found)]


def _from_sorted(keys: Iterable[Keys], bins: Sequence[_Bin], ranks: Sequence[int]) -> list[Ranked]:
    """The keys at the ranks, from few enough keys to sort them; those of bins of a single key are known."""
    wide = [each for each in bins if each.stop - each.start > 1]
    ordered = np.empty(0, np.uint64)
    if wide:
        starts, stops = _edges(wide)
        ordered = np.sort(np.concatenate([_within(chunk, starts, stops)[1] for chunk in keys]))
    found = []
    for rank in ranks:
        own = bins[_bin_of(bins, rank)]
        if own.stop - own.start == 1:
            found.append(Ranked(own.start, own.below))
            continue
        first = int(np.searchsorted(ordered, np.uint64(own.start)))
        key = ordered[first + rank - own.below]
        found.append(Ranked(int(key), own.below + int(np.searchsorted(ordered, key)) - first))
    return found


def _edges(bins: Sequence[_Bin]) -> tuple[Keys, Keys]:
    return np.array([each.start for each in bins], np.uint64), np.array([each.stop for each in bins], np.uint64)


def _within(keys: Keys, starts: Keys, stops: Keys) -> tuple[npt.NDArray[np.int64], Keys]:
    """The keys that are in a bin, and the number of the bin of each."""
    if len(starts) == 1:
        inside = keys[(keys >= starts[0]) & (keys < stops[0])]
        return np.zeros(len(inside), np.int64), inside
    at = np.searchsorted(starts, keys, "right") - 1
    chosen = (at >= 0) & (keys < stops[at])
    return at[chosen], keys[chosen]


def _bin_of(bins: Sequence[_Bin], rank: int) -> int:
    return next(at for at, each in enumerate(bins) if each.below <= rank < each.below + each.count)
