"""Walks over a model's graph: its operations, those of bodies among them, and where their inputs come from."""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov

_VARYING = {"ReadValue", "RandomUniform", "Multinomial"}
"""Operations that remember values or draw them at random."""
_READ_INPUTS = {"ShapeOf": 0, "ConvertLike": 1}
"""How many inputs of an operation it reads the elements of, where it does not read those of all."""


def graphs(model: ov.Model) -> Iterator[ov.Model]:
    """The model, followed by the bodies of its operations, and the bodies of theirs."""
    yield model
    for node in model.get_ops():
        for body in bodies(node):
            yield from graphs(body)


def bodies(node: ov.Node) -> list[ov.Model]:
    """The models that an operation runs: two for an If, one for a Loop or a TensorIterator, none for others."""
    type_name = node.get_type_name()
    if type_name == "If":
        return [node.get_function(0), node.get_function(1)]
    return [node.get_function()] if type_name in ("Loop", "TensorIterator") else []


def ancestors(source: ov.Output) -> Iterator[ov.Node]:
    """The operations from which a value is computed, its own first.

    An operation does not count if only the shape or the type of its output is used.
    """
    seen: set[str] = set()
    waiting = [source.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_name() not in seen:
            seen.add(node.get_name())
            yield node
            waiting += [each.get_node() for each in node.input_values()[: _READ_INPUTS.get(node.get_type_name())]]


def follows(source: ov.Output) -> bool:
    """Whether a value follows from constants and from the shapes of the model's inputs, and so from no data."""
    return not any(_varies(node) for node in ancestors(source))


def _varies(node: ov.Node) -> bool:
    """Whether the value of an operation may differ from run to run although its inputs are the same."""
    type_name = node.get_type_name()
    is_model_input = not node.get_input_size() and type_name != "Constant"
    return is_model_input or type_name in _VARYING or bool(bodies(node))
