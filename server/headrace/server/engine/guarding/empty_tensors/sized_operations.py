"""Which inputs of which operations may be empty while an output is not, as far as shapes tell.

The shapes are those of a copy of the model whose inputs have sizes: what is dynamic there depends on data, and is empty
where its lower bound says that it may be. What an operation makes of an empty input, its shape inference says.
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

UNCHECKED = {
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
"""Operations of which the runtime takes, when one input is empty, shapes that do not fit each other."""


@dataclass(frozen=True, slots=True)
class Copied:
    """An operation of the model, and the same of the copy.

    `inside` a body, shapes may be others from run to run although they look as if they had a lower bound.
    """

    node: ov.Node
    copy: ov.Node
    inside: bool

    def may_be_empty(self, index: int) -> bool:
        shape = self.copy.input_value(index).get_partial_shape()
        return shape.rank.is_dynamic or any(self._may_be_none(dimension) for dimension in shape)

    def surviving(self, index: int) -> bool:
        """Whether an input may be empty while an output is not."""
        shape = self.copy.input_value(index).get_partial_shape()
        return shape.rank.is_dynamic or any(
            _survives(self.copy, index, axis) for axis, dimension in enumerate(shape) if self._may_be_none(dimension)
        )

    def _may_be_none(self, dimension: ov.Dimension) -> bool:
        return dimension.get_min_length() == 0 or (self.inside and dimension.is_dynamic)


def graphs_with_copies(model: ov.Model, inputs: Sequence[Port]) -> list[tuple[ov.Model, list[Copied]]]:
    """The model and its bodies, each after what it is a body of, with their operations from the first to the last."""
    return [*_pairs(model, _sized(model, inputs), inside=False)]


def _pairs(model: ov.Model, copy: ov.Model, inside: bool) -> Iterator[tuple[ov.Model, list[Copied]]]:
    copies, known = _by_name(copy), _by_name(model)
    pairs = []
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        pairs.append((node, copies[name][0] if len(copies.get(name, [])) == len(known[name]) == 1 else node))
    yield model, [Copied(node, other, inside) for node, other in pairs]
    for node, other in pairs:
        for body, its_copy in zip(bodies(node), bodies(other), strict=True):
            yield from _pairs(body, its_copy, inside=True)


def _by_name(model: ov.Model) -> dict[str, list[ov.Node]]:
    """Copies have the names of what they are of, but there may be more of them, and nothing makes names unique."""
    nodes: dict[str, list[ov.Node]] = {}
    for node in model.get_ops():
        nodes.setdefault(node.get_friendly_name(), []).append(node)
    return nodes


def _sized(model: ov.Model, inputs: Sequence[Port]) -> ov.Model:
    """A copy with the smallest sizes that it takes; as the model is if it takes none of those that are tried.

    `Model.reshape` would change the operations, too.
    """
    for sizes in nearest_sizes(inputs):
        copy = model.clone()
        for index, shape in sizes.items():
            copy.get_parameters()[index].set_partial_shape(ov.PartialShape(shape))
        with suppress(RuntimeError):
            copy.validate_nodes_and_infer_types()
            return copy
    return model.clone()


def _survives(node: ov.Node, index: int, axis: int) -> bool:
    """Whether an output may have elements although this axis of this input has none."""
    source = node.input_value(index)
    shape = [0 if place == axis else dimension for place, dimension in enumerate(source.get_partial_shape())]
    nothing = opset.parameter(ov.PartialShape(shape), source.get_element_type())
    node.input(index).replace_source_output(nothing.output(0))
    try:
        node.validate_and_infer_types()
        return any(not _nothing(output) for output in node.outputs())
    except RuntimeError:
        return node.get_type_name() in UNCHECKED  # others fail with such shapes
    finally:
        node.input(index).replace_source_output(source)
        node.validate_and_infer_types()


def _nothing(output: ov.Output) -> bool:
    shape = output.get_partial_shape()
    return shape.rank.is_static and any(dimension.get_max_length() == 0 for dimension in shape)
