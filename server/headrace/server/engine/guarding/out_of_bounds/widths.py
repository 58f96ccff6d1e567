"""Widths, which must be those of the weights: the kernels for weights take any width and read beyond narrow rows."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import follows
from headrace.server.engine.guarding.out_of_bounds.refusals import Guard
from headrace.server.engine.guarding.out_of_bounds.values import change_input


def guard_matmul(node: ov.Node) -> None:
    """Make a run fail unless the rows have the width of the weights on the right; other products the runtime checks."""
    attributes, weights = node.get_attributes(), node.input_value(1)
    shape, rank = weights.get_partial_shape(), node.input_value(0).get_partial_shape().rank
    if not follows(weights) or shape.rank.is_dynamic or rank.is_dynamic:
        return
    inner = shape[shape.rank.get_length() - (1 if attributes["transpose_b"] or shape.rank.get_length() == 1 else 2)]
    if inner.is_static:
        axis = rank.get_length() - (2 if attributes["transpose_a"] and rank.get_length() > 1 else 1)
        _fail_unless_size(node, 0, axis, inner.get_length())


def guard_recurrence(weights: int) -> Guard:
    """Make a run fail unless the input has the width of the weights, which are the input with this index."""

    def guard(node: ov.Node) -> None:
        shape = node.input_value(weights).get_partial_shape()
        if shape.rank.is_static and shape[shape.rank.get_length() - 1].is_static:
            rank = node.input_value(0).get_partial_shape().rank
            if rank.is_static:
                _fail_unless_size(node, 0, rank.get_length() - 1, shape[shape.rank.get_length() - 1].get_length())

    return guard


def _fail_unless_size(node: ov.Node, index: int, axis: int, size: int) -> None:
    """Make a run fail unless an axis of an input has this size."""
    shape = node.input_value(index).get_partial_shape()
    if shape[axis].is_static:
        return
    pattern = np.zeros(shape.rank.get_length(), np.int64)  # 0 keeps the size as it is
    pattern[axis] = size
    change_input(node, index, lambda source: opset.reshape(source, opset.constant(pattern), True))
