"""The classification extension: the largest elements of an output instead of the whole tensor."""

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
    """The shape and data of a BYTES tensor with the `count` largest elements.

    Each element is written as `value:index`, or `value:index:label` if the index has a label. The largest comes first,
    equal ones in their order, NaN last. A tensor of two or more dimensions is classified row by row: the first axis
    counts the rows, and an index counts the elements of a row. Raises InvalidArgument.
    """
    if datatype in (Datatype.BOOL, Datatype.BYTES):
        raise InvalidArgument(
            f"an output of datatype {datatype.name} cannot be classified: its elements are not numbers"
        )
    if count < 1:
        raise InvalidArgument(f"the number of classes is {count}; it must be at least 1")
    rows = shape[0] if len(shape) > 1 else 1
    row_size = math.prod(shape[1:] if len(shape) > 1 else shape)
    values = from_wire(data, datatype, shape).reshape(rows, row_size)
    if datatype in (Datatype.FP16, Datatype.BF16):
        values = values.astype(np.float32)
    indices = _descending(values)[:, :count]
    largest = np.take_along_axis(values, indices, axis=1)
    classes = [
        _class(value, index, labels)
        for value, index in zip(largest.ravel().tolist(), indices.ravel().tolist(), strict=True)
    ]
    return (indices.shape if len(shape) > 1 else indices.shape[1:]), encode_bytes(np.array(classes, np.object_))


def _descending(values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The indices that sort each row in descending order. Integers are inverted bitwise, which never overflows."""
    keys = -values if values.dtype.kind == "f" else ~values
    return np.argsort(keys, axis=1, kind="stable")


def _class(value: float, index: int, labels: Sequence[str]) -> str:
    number = f"{value:f}" if isinstance(value, float) else str(value)
    label = labels[index] if index < len(labels) else ""
    return f"{number}:{index}:{label}" if label else f"{number}:{index}"
