"""The classification extension: instead of a tensor, its largest elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import Buffer, encode_bytes, from_wire


def classify(
    datatype: Datatype, shape: Sequence[int], data: Buffer, count: int, labels: Sequence[str]
) -> tuple[tuple[int, ...], bytes]:
    """The `count` largest elements as a BYTES tensor of `value:index`, or `value:index:label` where there is one.

    Largest first, of equal ones the first, NaN last. A tensor of two or more dimensions is classified row by row: its
    first axis has the rows, and an index counts the elements of one. Raises InvalidArgument.
    """
    if datatype in (Datatype.BOOL, Datatype.BYTES):
        raise InvalidArgument(
            f"an output of datatype {datatype.name} cannot be classified: its elements are no numbers"
        )
    if count < 1:
        raise InvalidArgument(f"classification asks for {count} classes; it takes 1 or more")
    rows = shape[0] if len(shape) > 1 else 1
    each = math.prod(shape[1:] if len(shape) > 1 else shape)
    values = from_wire(data, datatype, shape).reshape(rows, each)
    if datatype in (Datatype.FP16, Datatype.BF16):
        values = values.astype(np.float32)
    best = _descending(values)[:, :count]
    found = np.take_along_axis(values, best, axis=1)
    names = [
        _class(value, index, labels) for value, index in zip(found.ravel().tolist(), best.ravel().tolist(), strict=True)
    ]
    return (best.shape if len(shape) > 1 else best.shape[1:]), encode_bytes(np.array(names, np.object_))


def _descending(values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The order of each row. Integers are inverted bit by bit, which no value overflows."""
    keys = -values if values.dtype.kind == "f" else ~values
    return np.argsort(keys, axis=1, kind="stable")


def _class(value: float, index: int, labels: Sequence[str]) -> str:
    number = f"{value:f}" if isinstance(value, float) else str(value)
    label = labels[index] if index < len(labels) else ""
    return f"{number}:{index}:{label}" if label else f"{number}:{index}"
