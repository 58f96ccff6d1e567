"""Which sizes of a model's outputs are sizes of its inputs, by the runtime's own shape inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openvino as ov

from headrace.server.core.specs import Port

Shape = tuple[int, ...]


class Implied:
    """A last look at results, before a client gets them.

    Each dynamic dimension of an input is given a symbol of its own; shape inference hands symbols on wherever it can
    tell that a size stays the same. A result that says otherwise is not of these inputs.
    """

    def __init__(self, model: ov.Model, outputs: Sequence[Port]) -> None:
        self._sources = _sources(model)
        self._ports = outputs

    def check(self, output: int, shape: Shape, inputs: Mapping[int, Shape]) -> None:
        """Raises RuntimeError when a result of these inputs, by their index, cannot have such a shape."""
        for axis, source, its_axis in self._sources.get(output, ()):
            if shape[axis] != inputs[source][its_axis]:
                raise RuntimeError(
                    f"output {self._ports[output].name!r} has shape {list(shape)},"
                    f" where axis {axis} must be as axis {its_axis} of an input of shape {list(inputs[source])}"
                )

    def __contains__(self, output: int) -> bool:
        return output in self._sources


def _sources(model: ov.Model) -> dict[int, list[tuple[int, int, int]]]:
    """For each output: its axis, the input and the axis of that, as far as they are known to be of one size."""
    clone = model.clone()
    symbols = [
        (parameter, axis, symbol)
        for parameter, node in enumerate(clone.get_parameters())
        for axis, symbol in _give_symbols(node)
    ]
    try:
        clone.validate_nodes_and_infer_types()
    except RuntimeError:
        return {}  # then nothing is known
    found: dict[int, list[tuple[int, int, int]]] = {}
    for output, port in enumerate(clone.outputs):
        shape = port.get_partial_shape()
        for axis, dimension in enumerate(shape if shape.rank.is_static else ()):
            if dimension.is_dynamic and dimension.has_symbol():
                same = dimension.get_symbol()
                # Shape inference may join symbols, so that several inputs have this one.
                found.setdefault(output, []).extend(
                    (axis, parameter, its_axis) for parameter, its_axis, symbol in symbols if symbol == same
                )
    return found


def _give_symbols(node: ov.op.Parameter) -> list[tuple[int, ov.Symbol]]:
    """Mark each dynamic dimension of an input with a symbol. Returns their axes and symbols."""
    shape = node.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    dimensions: list[ov.Dimension] = []
    given: list[tuple[int, ov.Symbol]] = []
    for axis, dimension in enumerate(shape):
        if dimension.is_dynamic:
            symbol = ov.Symbol()
            dimension = ov.Dimension(dimension.min_length, dimension.max_length)
            dimension.set_symbol(symbol)
            given.append((axis, symbol))
        dimensions.append(dimension)
    node.set_partial_shape(ov.PartialShape(dimensions))
    return given
