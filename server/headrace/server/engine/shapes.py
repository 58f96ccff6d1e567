"""Whether the shapes inside a model follow from those of its inputs, or depend on data.

Two things in the CPU plugin (2026.4) make that matter. It does not execute an operation whose input is empty, and a
synchronous run on one thread does not raise what it fails with. Either leaves in an output what was computed the last
time, for whomever: an answer with somebody else's data. Where all shapes follow from those of the inputs, an empty
output is right, and no run fails where one of the same shapes has not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.wire.dtypes import Datatype

_SIZES = tuple(1 << power for power in range(11))
"""For dynamic dimensions: not every size fits every model."""
_NESTED = {"If", "Loop", "TensorIterator"}
"""Operations with models of their own, into which nobody looks here."""


def are_dynamic(model: ov.Model) -> bool:
    """Whether a shape anywhere in the model may differ from run to run, as far as one can see."""
    return any(
        node.get_type_name() in _NESTED or any(output.get_partial_shape().is_dynamic for output in node.outputs())
        for node in model.get_ops()
    )


def follow_when_empty(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether they follow when the inputs are as small as they may be."""
    return _follow(model, inputs, lambda dimension: dimension.min)


def follow(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether they follow when no input is empty."""
    return any(_follow(model, inputs, partial(_nearest, size=size)) for size in _SIZES)


def _nearest(dimension: Dimension, size: int) -> int:
    """To this size, of those that are admitted."""
    nearest = max(dimension.min, size)
    return nearest if dimension.max < 0 else min(nearest, dimension.max)


def _follow(model: ov.Model, inputs: Sequence[Port], choose: Callable[[Dimension], int]) -> bool:
    if any(port.datatype is Datatype.BYTES or port.shape is None for port in inputs):
        return False  # where strings are taken apart, the shapes say nothing of it
    clone = model.clone()
    try:
        clone.reshape({clone.inputs[port.index]: ov.PartialShape([*map(choose, port.shape or ())]) for port in inputs})
    except RuntimeError:
        return False
    return all(
        node.get_type_name() not in _NESTED and all(output.get_partial_shape().is_static for output in node.outputs())
        for node in clone.get_ops()
    )
