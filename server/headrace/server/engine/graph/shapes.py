"""Whether the shapes inside a model follow from those of its inputs, or depend on data.

Two things in the CPU plugin (2026.4) make that matter. It does not execute an operation whose input is empty, and a
synchronous run on one thread does not raise what it fails with. Either leaves in an output what was computed the last
time, for whomever: an answer with somebody else's data. Where all shapes follow from those of the inputs, no run fails
because of a shape where one of the same shapes has not; whether it may fail because of data is for `operations` to say.
And an output that is empty is right, but one that has elements although an input has none is right only where the
plugin sees to it. Where data make an input empty, `emptied` sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.server.engine.graph.traversal import ancestors
from headrace.wire.dtypes import Datatype

_SIZES = tuple(1 << power for power in range(11))
"""For dynamic dimensions: not every size fits every model."""
_NESTED = {"If", "Loop", "TensorIterator"}
"""Operations with models of their own, into which nobody looks here."""
_SLIDING = {
    "AvgPool",
    "BinaryConvolution",
    "Convolution",
    "ConvolutionBackpropData",
    "DeformableConvolution",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "MaxPool",
}
"""Operations that have padding of their own."""
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
"""Operations that give what they should also where an input is empty and the output is not; but see `_is_filled`."""


def are_dynamic(model: ov.Model) -> bool:
    """Whether a shape anywhere in the model may differ from run to run, as far as one can see."""
    return any(
        node.get_type_name() in _NESTED or any(output.get_partial_shape().is_dynamic for output in node.outputs())
        for node in model.get_ops()
    )


def are_taken(model: ov.Model, shapes: Mapping[int, Sequence[int]]) -> bool:
    """Whether shape inference takes inputs of these shapes, by their index."""
    clone = model.clone()
    try:
        clone.reshape({clone.inputs[index]: ov.PartialShape([*shape]) for index, shape in shapes.items()})
    except RuntimeError:
        return False
    return True


def follow_when_empty(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether they follow when the inputs are as small as they may be, and nothing is left over from another run."""
    if not _follow(model, inputs, lambda port: [dimension.min for dimension in port.shape or ()]):
        return False
    refused = not _takes_what_does_not_fit(model)
    return all(
        _follow(model, inputs, partial(_one_empty, index=port.index, axis=axis), refused)
        for port in inputs
        for axis, dimension in enumerate(port.shape or ())
        if dimension.min == 0
    )


def _takes_what_does_not_fit(model: ov.Model) -> bool:
    """Whether the runtime may take sizes of which only one is zero: in attention and in batches of Gather."""
    nodes = model.get_ops()
    types = {node.get_type_name() for node in nodes}
    return (
        "ScaledDotProductAttention" in types
        or types >= {"MatMul", "Softmax"}
        or any(node.get_attributes().get("batch_dims") for node in nodes if node.get_type_name() == "Gather")
    )


def _one_empty(port: Port, index: int, axis: int) -> list[int]:
    """The smallest sizes that have elements, but for one axis of one input, which has none."""
    return [
        0 if (port.index, place) == (index, axis) else max(1, dimension.min)
        for place, dimension in enumerate(port.shape or ())
    ]


def follow(model: ov.Model, inputs: Sequence[Port]) -> bool:
    """Whether they follow when no input is empty."""
    return any(_follow(model, inputs, partial(_all_near, size=size)) for size in _SIZES)


def nearest_sizes(inputs: Sequence[Port]) -> Iterator[dict[int, list[int]]]:
    """Sizes for the inputs whose rank is known, by index: all as near to a size as they may be, from small to large."""
    for size in _SIZES:
        yield {port.index: _all_near(port, size) for port in inputs if port.shape is not None}


def _all_near(port: Port, size: int) -> list[int]:
    return [_nearest(dimension, size) for dimension in port.shape or ()]


def _nearest(dimension: Dimension, size: int) -> int:
    """To this size, of those that are admitted."""
    nearest = max(dimension.min, size)
    return nearest if dimension.max < 0 else min(nearest, dimension.max)


def _follow(
    model: ov.Model, inputs: Sequence[Port], choose: Callable[[Port], list[int]], refused: bool = False
) -> bool:
    """Whether they follow from these sizes of the inputs; `refused` when the model does not take such sizes at all."""
    if any(port.datatype is Datatype.BYTES or port.shape is None for port in inputs):
        return False  # where strings are taken apart, the shapes say nothing of it
    clone = model.clone()
    try:
        clone.reshape({clone.inputs[port.index]: ov.PartialShape(choose(port)) for port in inputs})
    except RuntimeError:
        return refused
    return all(_follows(node) for node in clone.get_ops())


def _follows(node: ov.Node) -> bool:
    shapes = [output.get_partial_shape() for output in node.outputs()]
    if node.get_type_name() in _NESTED or not all(shape.is_static for shape in shapes):
        return False
    starved = any(_empty(source.get_partial_shape()) for source in node.input_values())
    return not starved or _is_filled(node) or all(map(_empty, shapes))


def _is_filled(node: ov.Node) -> bool:
    """Not where it becomes part of something else: a convolution's padding, or attention."""
    type_name = node.get_type_name()
    if type_name == "MatMul":
        return not any(each.get_type_name() == "Softmax" for each in ancestors(node.output(0)))
    return type_name in FILLED and not is_padding_of_convolution(node)


def is_padding_of_convolution(node: ov.Node) -> bool:
    """Whether it is a Pad that the runtime makes the padding of what is behind it."""
    return node.get_type_name() == "Pad" and any(
        taker.get_node().get_type_name() in _SLIDING for taker in node.output(0).get_target_inputs()
    )


def _empty(shape: ov.PartialShape) -> bool:
    return shape.is_static and 0 in shape.to_shape()
