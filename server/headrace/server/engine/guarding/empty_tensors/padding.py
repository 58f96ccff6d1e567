"""What is appended to an input in front of an operation, so that it is never empty."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.guarding.empty_tensors.refusals import refuse
from headrace.server.engine.guarding.empty_tensors.selection import scalar


def matmul(node: ov.Node, _emptied: list[int]) -> None:
    """Sum over one zero instead of nothing.

    A Select behind the operation might become part of attention, which the runtime would not execute.
    """
    attributes = node.get_attributes()
    _pad_if_empty(node, 0, -2 if attributes["transpose_a"] else -1)
    _pad_if_empty(node, 1, -1 if attributes["transpose_b"] else -2)


def attention(node: ov.Node, emptied: list[int]) -> None:
    """Supply a key and a value of zeros where there are none."""
    if not set(emptied) <= {1, 2, 3}:
        refuse(node, emptied)
    for index in (1, 2):
        _pad_if_empty(node, index, -2)
    if 3 in emptied:
        _pad_if_empty(node, 3, -1, node.input_value(3).get_element_type() == ov.Type.boolean)


def string_symbols(node: ov.Node, emptied: list[int]) -> None:
    """Append a symbol that is part of no string."""
    if emptied != [2]:
        refuse(node, emptied)
    symbol = opset.constant(np.array([0], np.uint8))
    node.input(2).replace_source_output(opset.concat([node.input_value(2), symbol], 0).output(0))


def _pad_if_empty(node: ov.Node, index: int, axis: int, value: float = 0) -> None:
    """Give an axis of an input one element if it has none."""
    source = node.input_value(index)
    rank = source.get_partial_shape().rank
    if rank.is_dynamic:
        refuse(node, [index])
    axis = -1 if rank.get_length() == 1 else axis
    is_axis = np.arange(rank.get_length()) == axis % rank.get_length()
    sizes = opset.shape_of(source, "i64")
    missing = opset.convert(opset.equal(sizes, opset.constant(np.int64(0))), "i64")
    more = opset.broadcast(scalar(value, source), opset.select(opset.constant(is_axis), missing, sizes))
    node.input(index).replace_source_output(opset.concat([source, more], axis % rank.get_length()).output(0))
