"""The classification extension: the largest elements of an output instead of the whole tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import Buffer, from_wire

MAX_ELEMENTS = 1 << 19
"""Elements that may be sorted for one response, which takes up to 30 ms, while the event loop does nothing else."""
MAX_CLASSES = 16 << 10
"""Classes in one response: each is a string, at 0.5 us, or 2 us for the largest numbers."""
_PARTITION_FROM = 1024
"""Elements of a row from which on the few largest are separated from the rest before they are sorted."""
_WHOLE_FROM = 2.0**53
"""Numbers from here on have no fraction, and are written as integers: as floats the largest take 20 us each."""
_MARK = "\n\n\n\n"
"""Holds the place of a length while strings are joined. No label contains a newline, since each is a line."""


class Classifier:
    """Classifies the outputs of one response, and bounds what that costs."""

    def __init__(self) -> None:
        self._elements = self._classes = 0

    def classify(
        self,
        datatype: Datatype,
        shape: Sequence[int],
        data: Buffer,
        count: int,
        labels: Sequence[str],
        known: Buffer | None = None,
    ) -> tuple[tuple[int, ...], bytes]:
        """The shape and data of a BYTES tensor with the `count` largest elements.

        Each element is written as `value:index`, or `value:index:label` if the index has a label. The largest comes
        first, equal ones in their order, NaN last. A tensor of two or more dimensions is classified row by row: the
        first axis counts the rows, and an index counts the elements of a row, unless the indices of all elements are
        `known`, as INT32. Raises InvalidArgument.
        """
        if datatype in (Datatype.BOOL, Datatype.BYTES):
            raise InvalidArgument(
                f"an output of datatype {datatype.name} cannot be classified: its elements are not numbers"
            )
        if count < 1:
            raise InvalidArgument(f"the number of classes is {count}; it must be at least 1")
        rows = shape[0] if len(shape) > 1 else 1
        row_size = math.prod(shape[1:] if len(shape) > 1 else shape)
        count = min(count, row_size)
        self._count(rows * row_size, rows * count)
        values = from_wire(data, datatype, shape).reshape(rows, row_size)
        if datatype in (Datatype.FP16, Datatype.BF16):
            values = values.astype(np.float32)
        indices = _largest(values, count)
        largest = np.take_along_axis(values, indices, axis=1)
        classes = indices
        if known is not None:
            classes = np.take_along_axis(
                from_wire(known, Datatype.INT32, shape).reshape(rows, row_size), indices, axis=1
            )
        elements = _strings(largest.ravel().tolist(), classes.ravel().tolist(), labels)
        return (indices.shape if len(shape) > 1 else indices.shape[1:]), elements

    def _count(self, elements: int, classes: int) -> None:
        """Raises InvalidArgument if the response takes too long to classify."""
        self._elements += elements
        self._classes += classes
        if self._elements > MAX_ELEMENTS:
            raise InvalidArgument(
                f"{self._elements} elements are to be classified; the limit for one response is {MAX_ELEMENTS}"
            )
        if self._classes > MAX_CLASSES:
            raise InvalidArgument(
                f"{self._classes} classes are requested; the limit for one response is {MAX_CLASSES}, over all rows"
            )


def _largest(values: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """The indices of the largest elements of each row, in descending order.

    Integers are inverted bitwise, which never overflows.
    """
    keys = -values if values.dtype.kind == "f" else ~values
    rows, size = keys.shape
    if rows and size >= _PARTITION_FROM and count <= size // 2:
        return np.stack([_smallest(row, count) for row in keys])
    return np.argsort(keys, axis=1, kind="stable")[:, :count]


def _smallest(keys: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """The indices of the smallest keys, in ascending order; those of equal ones in their order."""
    limit = np.partition(keys, count - 1)[count - 1]
    candidates = np.flatnonzero(~(keys > limit))  # with NaN, which is not greater than anything
    return candidates[np.argsort(keys[candidates], kind="stable")[:count]]


def _strings(values: Sequence[float], indices: Sequence[int], labels: Sequence[str]) -> bytes:
    """The elements `value:index` or `value:index:label` of a BYTES tensor, all formatted at once."""
    count = len(values)
    if not count:
        return b""
    kind = "%d"
    columns: list[Sequence[object]] = [values, indices]
    if isinstance(values[0], float):
        kind = "%f"
        if any(math.isfinite(value) and abs(value) >= _WHOLE_FROM for value in values):
            kind, columns[0] = "%s", [_fixed_point(value) for value in values]
    if labels:
        known = len(labels)
        columns.append([f":{labels[i]}" if i < known and labels[i] else "" for i in indices])
    arguments: list[object] = [None] * (len(columns) * count)
    for number, column in enumerate(columns):
        arguments[number :: len(columns)] = column
    element = f"{_MARK}{kind}:%d{'%s' if labels else ''}"
    text = np.frombuffer(bytearray((element * count % tuple(arguments)).encode()), np.uint8)
    starts = np.flatnonzero(text == ord(_MARK[0]))[:: len(_MARK)]
    lengths = np.diff(starts, append=len(text)) - len(_MARK)
    text[starts[:, np.newaxis] + np.arange(len(_MARK))] = lengths.astype("<u4").view(np.uint8).reshape(count, -1)
    return text.tobytes()


def _fixed_point(value: float) -> str:
    """What %f writes."""
    if math.isfinite(value) and abs(value) >= _WHOLE_FROM:
        return f"{int(value)}.000000"
    return f"{value:f}"
