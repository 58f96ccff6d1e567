"""Inputs without elements: what the CPU plugin makes of them.

It does not execute an operation whose input is empty. Where the shape of an output follows from the shapes of the
inputs that is right; where it depends on data (Unique, StringTensorUnpack), the output stays what it was computed to be
the last time, by whomever: an answer with somebody else's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.wire.dtypes import Datatype


def without_empty(model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """The inputs, with one element at least in each dynamic dimension where an empty one would not be safe."""
    if _safe(model, inputs):
        return tuple(inputs)
    return tuple(replace(port, shape=port.shape and tuple(map(_not_empty, port.shape))) for port in inputs)


def _safe(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether every shape inside the model follows from the shapes of its inputs when these are empty."""
    smallest = {port.index: [dimension.min for dimension in port.shape or ()] for port in inputs}
    if not any(dimension.min == 0 for port in inputs for dimension in port.shape or ()):
        return True
    if any(port.datatype is Datatype.BYTES for port in inputs):
        return False  # where strings are taken apart, the shapes say nothing of it
    empty = model.clone()
    try:
        empty.reshape({empty.inputs[index]: ov.PartialShape(shape) for index, shape in smallest.items()})
    except RuntimeError:
        return False
    return all(output.get_partial_shape().is_static for node in empty.get_ops() for output in node.outputs())


def _not_empty(dimension: Dimension) -> Dimension:
    return dimension if dimension.static else Dimension(max(1, dimension.min), dimension.max)
