"""Which operations may have an empty input and yet an output with elements, as far as shapes tell.

The shapes are those of a copy of the model whose inputs have static sizes. A shape that is still dynamic there depends
on data, and may be empty where its lower bound is 0. Shape inference says what an operation makes of an empty input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import openvino as ov
from openvino import opset15 as opset

from headrace.server.core.specs import Port
from headrace.server.engine.graph.shapes import nearest_sizes
from headrace.server.engine.graph.traversal import bodies

UNCHECKED_WHEN_EMPTY = {
    "GRUCell",
    "GRUSequence",
    "Gather",
    "LSTMCell",
    "LSTMSequence",
    "MatMul",
    "RNNCell",
    "RNNSequence",
    "ScaledDotProductAttention",
}
"""Operations for which the runtime accepts shapes that do not match each other when one input is empty."""


@dataclass(frozen=True, slots=True)
class SizedOperation:
    """An operation of the model, and its counterpart in the copy with static inputs.

    `in_body`: it is part of a body, where shapes may differ between iterations whatever lower bound they show.
    """

    node: ov.Node
    sized: ov.Node
    in_body: bool

    def may_be_empty(self, index: int) -> bool:
        """Whether data may empty an input."""
        shape = self.sized.input_value(index).get_partial_shape()
        return shape.rank.is_dynamic or any(self._may_be_zero(dimension) for dimension in shape)

    def may_be_empty_alone(self, index: int) -> bool:
        """Whether data may empty an input while an output has elements."""
        shape = self.sized.input_value(index).get_partial_shape()
        return shape.rank.is_dynamic or any(
            _output_remains(self.sized, index, axis)
            for axis, dimension in enumerate(shape)
            if self._may_be_zero(dimension)
        )

    def _may_be_zero(self, dimension: ov.Dimension) -> bool:
        return dimension.get_min_length() == 0 or (self.in_body and dimension.is_dynamic)


def sized_operations(model: ov.Model, inputs: Sequence[Port]) -> list[tuple[ov.Model, list[SizedOperation]]]:
    """The model and its bodies with their operations, in the order of execution; a body follows what contains it."""
    return [*_pairs(model, _with_static_inputs(model, inputs), in_body=False)]


def _pairs(model: ov.Model, copy: ov.Model, in_body: bool) -> Iterator[tuple[ov.Model, list[SizedOperation]]]:
    copies, originals = _by_name(copy), _by_name(model)
    pairs = []
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        pairs.append((node, copies[name][0] if len(copies.get(name, [])) == len(originals[name]) == 1 else node))
    yield model, [SizedOperation(node, sized, in_body) for node, sized in pairs]
    for node, sized in pairs:
        for body, sized_body in zip(bodies(node), bodies(sized), strict=True):
            yield from _pairs(body, sized_body, in_body=True)


def _by_name(model: ov.Model) -> dict[str, list[ov.Node]]:
    """Operations by name. A copy keeps the names of its originals, but names need not be unique."""
    nodes: dict[str, list[ov.Node]] = {}
    for node in model.get_ops():
        nodes.setdefault(node.get_friendly_name(), []).append(node)
    return nodes


def _with_static_inputs(model: ov.Model, inputs: Sequence[Port]) -> ov.Model:
    """A copy with the smallest static sizes that the model accepts; an unchanged copy if it accepts none of them.

    `Model.reshape` would change operations as well.
    """
    for sizes in nearest_sizes(inputs):
        copy = model.clone()
        for index, shape in sizes.items():
            copy.get_parameters()[index].set_partial_shape(ov.PartialShape(shape))
        with suppress(RuntimeError):
            copy.validate_nodes_and_infer_types()
            return copy
    return model.clone()


def _output_remains(node: ov.Node, index: int, axis: int) -> bool:
    """Whether an output may have elements although this axis of this input has none."""
    source = node.input_value(index)
    shape = [0 if place == axis else dimension for place, dimension in enumerate(source.get_partial_shape())]
    empty = opset.parameter(ov.PartialShape(shape), source.get_element_type())
    node.input(index).replace_source_output(empty.output(0))
    try:
        node.validate_and_infer_types()
        return any(not _is_empty(output) for output in node.outputs())
    except RuntimeError:
        return node.get_type_name() in UNCHECKED_WHEN_EMPTY  # the others fail with such shapes
    finally:
        node.input(index).replace_source_output(source)
        node.validate_and_infer_types()


def _is_empty(output: ov.Output) -> bool:
    shape = output.get_partial_shape()
    return shape.rank.is_static and any(dimension.get_max_length() == 0 for dimension in shape)
