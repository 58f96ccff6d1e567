"""What is selected behind an operation when an input is empty: the result that it should have had."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.shapes import is_padding_of_convolution
from headrace.server.engine.graph.traversal import ancestors
from headrace.server.engine.guarding.empty_tensors.refusals import refuse


def scalar(value: float, like: ov.Output) -> ov.Output:
    """A constant scalar with the element type of another tensor."""
    return opset.constant(value, like.get_element_type()).output(0)


def replace_output(output: ov.Output, change: Callable[[], ov.Node]) -> None:
    """Put an operation behind an output. Its consumers take the result, which also takes over the output's names."""
    consumers = output.get_target_inputs()
    if not consumers:
        return
    changed = change().output(0)
    changed.get_tensor().set_names(output.get_names())
    output.get_tensor().set_names(set())
    for consumer in consumers:
        consumer.replace_source_output(changed)


def zeros(node: ov.Node, emptied: list[int]) -> None:
    """Select zeros: the sum over nothing, or what is found in nothing."""
    empty = _any_is_empty(*(node.input_value(index) for index in emptied))
    for output in node.outputs():
        _select(output, empty, scalar(0, output))


def zeros_outside_attention(node: ov.Node, emptied: list[int]) -> None:
    """Select zeros, but refuse attention: the runtime would fuse the Select into it and not execute it either."""
    is_attention = any(each.get_type_name() == "Softmax" for each in ancestors(node.output(0)))
    (refuse if is_attention else zeros)(node, emptied)


def least_value(node: ov.Node, _emptied: list[int]) -> None:
    """Select the least value of the element type, which is the maximum of nothing, and 0 as its position."""
    largest, *positions = node.outputs()
    empty = _any_is_empty(node.input_value(0))
    dtype = np.dtype(largest.get_element_type().to_dtype())
    least = np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min
    _select(largest, empty, scalar(least, largest))
    for output in positions:
        _select(output, empty, scalar(0, output))


def pad_value(node: ov.Node, _emptied: list[int]) -> None:
    """Select the pad value behind a Pad that becomes the padding of a convolution; other Pads are right."""
    if not is_padding_of_convolution(node):
        return
    output = node.output(0)
    value = node.input_value(3) if node.get_input_size() > 3 else scalar(0, output)
    _select(output, _any_is_empty(node.input_value(0)), value)


def initial_state(node: ov.Node, _emptied: list[int]) -> None:
    """Select the initial state, which is the state after no steps."""
    empty = _any_is_empty(node.input_value(0))
    for index, output in enumerate(node.outputs()[1:], start=1):
        _select(output, empty, node.input_value(index))


def _any_is_empty(*sources: ov.Output) -> ov.Node:
    """A boolean scalar: whether one of these tensors is empty."""
    axes = opset.constant(np.array([0], np.int64))
    smallest = [opset.reduce_min(opset.shape_of(source, "i64"), axes, False) for source in sources]
    return opset.equal(reduce(opset.minimum, smallest), opset.constant(np.int64(0)))


def _select(output: ov.Output, empty: ov.Node, instead: ov.Output) -> None:
    """Give the consumers of an output something else if `empty`."""
    replace_output(output, lambda: opset.select(empty, instead, output))
