"""Operations that find elements by index, by value or by order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset1, opset3, opset4, opset5, opset6, opset7, opset8, opset11, opset12, opset15

from tests.server.engine.example import Build, Example, Examples, f32, i32, i64, of, real, whole

INDICES = (i32(2, 3), i64(5))
KINDS = (f32, i32, i64)


def _gathered(opset: Any) -> list[Example]:
    """Rows and columns of a matrix, and numbers of a vector: the runtime has a kernel for each."""
    rows, columns = (lambda x, i, axis=axis: opset.gather(x, i, whole(axis)) for axis in (0, 1))
    return [
        example
        for indices in INDICES
        for kind in KINDS
        for example in (
            *of((kind(4, 21), indices), rows, columns),
            *of((kind(5), indices), rows),
            *of((kind(65), indices), rows),
        )
    ]


def _embedding(i: ov.Node) -> ov.Node:
    """A table of bytes with a scale per row, which the runtime does not decompress in advance."""
    table = _bytes(np.arange(5 * 64, dtype=np.uint8).reshape(5, 64))
    zero = opset1.convert(_bytes(np.full((5, 1), 8, np.uint8)), "f32")
    scaled = opset1.multiply(opset1.subtract(opset1.convert(table, "f32"), zero), real(np.full((5, 1), 0.5)))
    return opset8.gather(scaled, i, whole(0))


def _bytes(values: npt.NDArray[np.uint8]) -> ov.Node:
    return opset1.constant(values)


def _largest(opset: Any) -> list[Example]:
    return [
        each
        for kind in KINDS
        for each in of(
            kind(4, 21),
            lambda x: opset.topk(x, whole(3), 1, "max", "value").output(0),
            lambda x: opset.topk(x, whole(3), 1, "min", "index").output(1),
            lambda x: opset.topk(x, whole(3), 0, "max", "none").output(0),
        )
    ]


def _updated(*builds: Build) -> list[Example]:
    """Rows 2 and 0 of four."""
    return [each for kind in KINDS for each in of((kind(4, 6), kind(2, 6)), *builds)]


EXAMPLES: Examples = {
    "Gather.opset1": _gathered(opset1),
    "Gather.opset7": _gathered(opset7),
    "Gather.opset8": [
        *_gathered(opset8),
        *of((f32(2, 4, 3), i32(2, 2)), lambda x, i: opset8.gather(x, i, whole(1), 1)),
        *of(i32(3), _embedding),
        *of(i64(3), _embedding),
    ],
    "GatherElements.opset6": of(f32(4, 6), lambda x: opset6.gather_elements(x, whole([[0, -1, 3, 2, 1, 1]]), 0)),
    "GatherND.opset5": of(f32(4, 6), lambda x: opset5.gather_nd(x, whole([[0, 5], [3, 2]]))),
    "GatherND.opset8": of(f32(4, 6), lambda x: opset8.gather_nd(x, whole([[0], [3], [3], [1]]), 0)),
    "ScatterUpdate.opset3": _updated(lambda x, y: opset3.scatter_update(x, whole([2, 0]), y, whole(0))),
    "ScatterElementsUpdate.opset3": _updated(
        lambda x, y: opset3.scatter_elements_update(x, whole([[2] * 6, [0] * 6]), y, whole(0))
    ),
    "ScatterElementsUpdate.opset12": _updated(
        *[
            lambda x, y, reduction=reduction: opset12.scatter_elements_update(
                x, whole([[2] * 6, [0] * 6]), y, whole(0), reduction
            )
            for reduction in ("sum", "prod", "mean", "max")
        ]
    ),
    "ScatterNDUpdate.opset4": _updated(lambda x, y: opset4.scatter_nd_update(x, whole([[2], [0]]), y)),
    "ScatterNDUpdate.opset15": _updated(
        *[
            lambda x, y, reduction=reduction: opset15.scatter_nd_update(x, whole([[2], [0]]), y, reduction)
            for reduction in ("none", "sum", "prod", "min")
        ]
    ),
    "OneHot.opset1": [
        *of((i32(5),), lambda i: opset1.one_hot(i, whole(4), real(1), real(0), -1)),
        *of((i64(5), f32(), f32()), lambda i, on, off: opset1.one_hot(i, whole(4), on, off, 0)),
    ],
    "Bucketize.opset3": [
        each for kind in KINDS for each in of((kind(2, 5), kind(4)), lambda x, b: opset3.bucketize(x, b, "i32"))
    ],
    "TopK.opset1": _largest(opset1),
    "TopK.opset3": _largest(opset3),
    "TopK.opset11": _largest(opset11),
}
