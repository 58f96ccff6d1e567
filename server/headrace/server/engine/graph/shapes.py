"""Whether the shapes inside a model follow from those of its inputs, or depend on data.

Two properties of the CPU plugin (openvino 2026.4) make this matter: it does not execute an operation whose input is
empty, and a synchronous run on one thread does not raise when it fails. Either way an output keeps an earlier run's
result: an answer with another client's data. Where all shapes follow from those of the inputs, no run fails because of
a shape if an earlier run of the same shapes has not; whether data may make it fail is for `safety` to say. An empty
output is always right. An output with elements whose input is empty is right only where the plugin fills it. Inputs
that data make empty are the concern of `guarding.empty_tensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.server.engine.graph.traversal import ancestors
from headrace.wire.dtypes import Datatype

_SIZES = tuple(1 << power for power in range(11))
"""Tried for dynamic dimensions, because not every model accepts every size."""
_NESTED = {"If", "Loop", "TensorIterator"}
"""Operations with bodies, which are not examined here."""
_CONVOLUTIONS = {
    "AvgPool",
    "BinaryConvolution",
    "Convolution",
    "ConvolutionBackpropData",
    "DeformableConvolution",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "MaxPool",
}
"""Operations that slide a window and have padding of their own."""
FILLED = {
    "Concat",
    "MatMul",
    "Pad",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogicalAnd",
    "ReduceLogicalOr",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ShapeOf",
}
"""Operations that give the right output even if an input is empty and the output is not; but see `_is_filled`."""


def are_dynamic(model: ov.Model) -> bool:
    """Whether a shape anywhere in the model may differ from run to run. Bodies count as dynamic."""
    return any(
        node.get_type_name() in _NESTED or any(output.get_partial_shape().is_dynamic for output in node.outputs())
        for node in model.get_ops()
    )


def are_accepted(model: ov.Model, shapes: Mapping[int, Sequence[int]]) -> bool:
    """Whether shape inference accepts inputs of these shapes, by index."""
    clone = model.clone()
    try:
        clone.reshape({clone.inputs[index]: ov.PartialShape([*shape]) for index, shape in shapes.items()})
    except RuntimeError:
        return False
    return True


def follow_when_empty(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether the shapes follow for inputs as small as admitted, and no output keeps an earlier run's elements."""
    if not _follow(model, inputs, lambda port: [dimension.min for dimension in port.shape or ()]):
        return False
    refusing_is_safe = not _accepts_mismatched_zeros(model)
    return all(
        _follow(model, inputs, partial(_one_empty, index=port.index, axis=axis), refusing_is_safe)
        for port in inputs
        for axis, dimension in enumerate(port.shape or ())
        if dimension.min == 0
    )


def _accepts_mismatched_zeros(model: ov.Model) -> bool:
    """Whether the runtime may accept sizes of which only one is zero, as in attention and in batches of Gather."""
    nodes = model.get_ops()
    types = {node.get_type_name() for node in nodes}
    return (
        "ScaledDotProductAttention" in types
        or types >= {"MatMul", "Softmax"}
        or any(node.get_attributes().get("batch_dims") for node in nodes if node.get_type_name() == "Gather")
    )


def _one_empty(port: Port, index: int, axis: int) -> list[int]:
    """The smallest sizes with elements, except that one axis of one input has none."""
    return [
        0 if (port.index, place) == (index, axis) else max(1, dimension.min)
        for place, dimension in enumerate(port.shape or ())
    ]


def follow(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether the shapes follow when no input is empty."""
    return any(_follow(model, inputs, partial(_all_near, size=size)) for size in _SIZES)


def nearest_sizes(inputs: Sequence[Port]) -> Iterator[dict[int, list[int]]]:
    """Shapes for the inputs of static rank, by index: every size as close to a common one as admitted, from 1 up."""
    for size in _SIZES:
        yield {port.index: _all_near(port, size) for port in inputs if port.shape is not None}


def _all_near(port: Port, size: int) -> list[int]:
    return [_nearest(dimension, size) for dimension in port.shape or ()]


def _nearest(dimension: Dimension, size: int) -> int:
    """The admitted size that is closest to this one."""
    nearest = max(dimension.min, size)
    return nearest if dimension.max < 0 else min(nearest, dimension.max)


def _follow(
    model: ov.Model, inputs: Sequence[Port], choose: Callable[[Port], list[int]], if_refused: bool = False
) -> bool:
    """Whether the shapes follow from the input shapes that `choose` gives; `if_refused` if the model refuses those."""
    if any(port.datatype is Datatype.BYTES or port.shape is None for port in inputs):
        return False  # shapes say nothing about the lengths of strings
    clone = model.clone()
    try:
        clone.reshape({clone.inputs[port.index]: ov.PartialShape(choose(port)) for port in inputs})
    except RuntimeError:
        return if_refused
    return all(_follows(node) for node in clone.get_ops())


def _follows(node: ov.Node) -> bool:
    shapes = [output.get_partial_shape() for output in node.outputs()]
    if node.get_type_name() in _NESTED or not all(shape.is_static for shape in shapes):
        return False
    has_empty_input = any(_empty(source.get_partial_shape()) for source in node.input_values())
    return not has_empty_input or _is_filled(node) or all(map(_empty, shapes))


def _is_filled(node: ov.Node) -> bool:
    """Whether the output is right with an empty input: not if fused into a convolution, as its padding, or
    attention."""
    type_name = node.get_type_name()
    if type_name == "MatMul":
        return not any(each.get_type_name() == "Softmax" for each in ancestors(node.output(0)))
    return type_name in FILLED and not is_padding_of_convolution(node)


def is_padding_of_convolution(node: ov.Node) -> bool:
    """Whether this is a Pad that the runtime fuses into the convolution or pooling behind it."""
    return node.get_type_name() == "Pad" and any(
        consumer.get_node().get_type_name() in _CONVOLUTIONS for consumer in node.output(0).get_target_inputs()
    )


def _empty(shape: ov.PartialShape) -> bool:
    return shape.is_static and 0 in shape.to_shape()
