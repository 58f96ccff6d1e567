"""Which sizes of a model's outputs must equal sizes of its inputs, according to the runtime's own shape inference.

Each dynamic dimension of an input gets a symbol of its own, and shape inference passes symbols on where it concludes
that a size stays the same. Symbols are cheap to compare with each result but not always right: shape inference forgets
that a size of 1 may be broadcast. So a result that contradicts them is judged by inferring shapes from these very
inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openvino as ov

from headrace.server.core.specs import Port

Shape = tuple[int, ...]
Equality = tuple[int, int, int]
"""An axis of an output, and the index and axis of the input whose size it has."""


class ImpliedSizes:
    """A last check of results before they go to a client: a result of wrong size does not belong to its inputs."""

    def __init__(self, model: ov.Model, outputs: Sequence[Port]) -> None:
        self._equalities = _equalities(model)
        self._model = model if self._equalities else None
        self._ports = outputs

    def check(self, output: int, shape: Shape, inputs: Mapping[int, Shape]) -> None:
        """Raises RuntimeError when the result of inputs with these shapes, by index, cannot have such a shape."""
        for equality in self._equalities.get(output, ()):
            axis, given, given_axis = equality
            if shape[axis] != inputs[given][given_axis]:
                if self._must_differ(output, axis, shape[axis], inputs):
                    raise RuntimeError(
                        f"output {self._ports[output].name!r} has shape {list(shape)},"
                        f" but axis {axis} must equal axis {given_axis} of an input of shape {list(inputs[given])}"
                    )
                self._equalities[output] = [each for each in self._equalities[output] if each is not equality]

    def _must_differ(self, output: int, axis: int, size: int, inputs: Mapping[int, Shape]) -> bool:
        """Whether these inputs give an axis of an output another size than this one."""
        assert self._model is not None
        clone = self._model.clone()
        clone.reshape({clone.inputs[index]: ov.PartialShape(list(shape)) for index, shape in inputs.items()})
        dimension = clone.outputs[output].get_partial_shape()[axis]
        return bool(dimension.is_static and dimension.get_length() != size)

    def __contains__(self, output: int) -> bool:
        """Whether an output has sizes to check."""
        return output in self._equalities


def _equalities(model: ov.Model) -> dict[int, list[Equality]]:
    """What shape inference concludes, by output."""
    clone = model.clone()
    symbols = [
        (parameter, axis, symbol)
        for parameter, node in enumerate(clone.get_parameters())
        for axis, symbol in _give_symbols(node)
    ]
    try:
        clone.validate_nodes_and_infer_types()
    except RuntimeError:
        return {}
    found: dict[int, list[Equality]] = {}
    for output, port in enumerate(clone.outputs):
        shape = port.get_partial_shape()
        for axis, dimension in enumerate(shape if shape.rank.is_static else ()):
            if dimension.is_dynamic and dimension.has_symbol():
                output_symbol = dimension.get_symbol()
                # Shape inference may join symbols, so several inputs may have this one.
                found.setdefault(output, []).extend(
                    (axis, parameter, its_axis) for parameter, its_axis, symbol in symbols if symbol == output_symbol
                )
    return found


def _give_symbols(node: ov.op.Parameter) -> list[tuple[int, ov.Symbol]]:
    """Give each dynamic dimension of an input a symbol. Returns the axes and the symbols."""
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
