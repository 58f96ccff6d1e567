"""Which sizes of a model's outputs are sizes of its inputs, by the runtime's own shape inference.

Each dynamic dimension of an input is given a symbol of its own, and shape inference hands symbols on where it thinks
that a size stays the same. That is cheap to compare with each result, but not always right: it forgets that a size of 1
may be spread over another. So a result that it speaks against is judged by inferring the shapes of these very inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openvino as ov

from headrace.server.core.specs import Port

Shape = tuple[int, ...]
Source = tuple[int, int, int]
"""The axis of an output, the input that has the same size, and the axis of that."""


class Implied:
    """A last look at results, before a client gets them: one of other sizes than it must have is not of its inputs."""

    def __init__(self, model: ov.Model, outputs: Sequence[Port]) -> None:
        self._sources = _sources(model)
        self._model = model if self._sources else None
        self._ports = outputs

    def check(self, output: int, shape: Shape, inputs: Mapping[int, Shape]) -> None:
        """Raises RuntimeError when a result of these inputs, by their index, cannot have such a shape."""
        for source in self._sources.get(output, ()):
            axis, given, its_axis = source
            if shape[axis] != inputs[given][its_axis]:
                if self._must_differ(output, axis, shape[axis], inputs):
                    raise RuntimeError(
                        f"output {self._ports[output].name!r} has shape {list(shape)},"
                        f" where axis {axis} must be as axis {its_axis} of an input of shape {list(inputs[given])}"
                    )
                self._sources[output] = [each for each in self._sources[output] if each is not source]

    def _must_differ(self, output: int, axis: int, size: int, inputs: Mapping[int, Shape]) -> bool:
        """Whether these inputs give an output another size than this one."""
        assert self._model is not None
        clone = self._model.clone()
        clone.reshape({clone.inputs[index]: ov.PartialShape(list(shape)) for index, shape in inputs.items()})
        dimension = clone.outputs[output].get_partial_shape()[axis]
        return bool(dimension.is_static and dimension.get_length() != size)

    def __contains__(self, output: int) -> bool:
        return output in self._sources


def _sources(model: ov.Model) -> dict[int, list[Source]]:
    """What shape inference says of each output."""
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
    found: dict[int, list[Source]] = {}
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
