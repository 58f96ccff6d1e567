"""What stands inside a model: its operations, those of bodies among them, and where their inputs come from."""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov

_VARYING = {"ReadValue", "RandomUniform", "Multinomial"}
"""What remembers or invents."""
_LOOKED_AT = {"ShapeOf": 0, "ConvertLike": 1}
"""How many of the inputs have data that matters, where not all have."""


def graphs(model: ov.Model) -> Iterator[ov.Model]:
    """The model, and after it the bodies of its operations, and theirs."""
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
    """What a value is computed from: its node, and others before it, but not those of which only the shape or the type
    is looked at."""
    seen: set[str] = set()
    waiting = [source.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_name() not in seen:
            seen.add(node.get_name())
            yield node
            waiting += [each.get_node() for each in node.input_values()[: _LOOKED_AT.get(node.get_type_name())]]


def follows(source: ov.Output) -> bool:
    """Whether a value follows from constants and from the shapes of the model's inputs, and so from no data."""
    return not any(_varies(node) for node in ancestors(source))


def _varies(node: ov.Node) -> bool:
    """Whether it may be another value though nothing that it is computed from has changed."""
    type_name = node.get_type_name()
    source = not node.get_input_size() and type_name != "Constant"
    return source or type_name in _VARYING or bool(bodies(node))
