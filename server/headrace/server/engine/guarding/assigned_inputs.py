"""Keeps the inputs of a model apart from its variables.

When a variable is assigned an input, or a part or a window of one, the runtime may let both have the same memory
(openvino 2026.4, CPU): the variable then changes with the next input, and what is computed from either is whatever the
memory holds, an earlier request's data among others. It does not help that variables are reset before each run. An
operation in between that computes each element keeps them apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov
from openvino import opset15 as opset

_MOVE = {
    "Assign",
    "Broadcast",
    "Convert",
    "ConvertLike",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StridedSlice",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "VariadicSplit",
}
"""Operations that move the elements of their first input, or do nothing."""
_CHOOSE = {"Add", "Concat", "Divide", "Maximum", "Minimum", "Multiply", "Power", "Select", "Subtract"}
"""Operations that may give the elements of any of their inputs: joined, or as they are with certain constants."""


def separate_assigned_inputs(model: ov.Model) -> None:
    """Copy the inputs that a variable may be assigned as they are, in place, on their way there."""
    targets: dict[tuple[str, int], ov.Input] = {}
    for node in model.get_ops():
        if node.get_type_name() == "Assign":
            targets.update(((each.get_node().get_name(), each.get_index()), each) for each in _uses_of_inputs(node))
    for target in targets.values():
        source = target.get_source_output()
        if source.get_element_type() == ov.Type.string:
            continue
        target.replace_source_output(opset.select(opset.equal(source, source), source, source).output(0))


def _uses_of_inputs(node: ov.Node) -> Iterator[ov.Input]:
    """Where the inputs of the model are used whose elements may reach this operation as they are."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        type_name = node.get_type_name()
        for target in node.inputs() if type_name in _CHOOSE else node.inputs()[:1] if type_name in _MOVE else ():
            source = target.get_source_output().get_node()
            if source.get_type_name() == "Parameter":
                yield target
            else:
                waiting.append(source)
