"""Counts, offsets and positions, which must not exceed the number of elements that there are."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.guarding.out_of_bounds.indices import between, sizes_of
from headrace.server.engine.guarding.out_of_bounds.refusals import refusal
from headrace.server.engine.guarding.out_of_bounds.values import change_input, number


def guard_k(node: ov.Node) -> None:
    """Keep k between 1 and the number of elements: with another k the second run ends the process."""
    data, axis = node.input_value(0), int(node.get_attributes()["axis"])
    rank = data.get_partial_shape().rank
    if rank.is_dynamic:
        why = "the runtime does not check how many elements there are"
        raise refusal(node, "selects the largest elements of a tensor of unknown rank", why)

    def change(source: ov.Output) -> ov.Node:
        return opset.minimum(opset.maximum(source, number(1, source)), sizes_of(data, axis % rank.get_length(), source))

    change_input(node, 1, change)


def guard_offsets(node: ov.Node) -> None:
    """Let no bag begin beyond the end. The last bags may then be empty, which the runtime refuses."""
    indices = node.input_value(1)
    change_input(node, 2, lambda source: opset.minimum(source, sizes_of(indices, 0, source)))


def guard_image_numbers(node: ov.Node) -> None:
    """Keep the number of each box's image below the number of images."""
    data = node.input_value(0)

    def change(source: ov.Output) -> ov.Node:
        return between(source, number(0, source), sizes_of(data, 0, source))

    change_input(node, 2, change)


def guard_begins_and_ends(node: ov.Node) -> None:
    """Let each string begin within the symbols, and end neither before its begin nor beyond the symbols."""
    begins, ends, symbols = (node.input_value(index) for index in range(3))
    size = sizes_of(symbols, 0, begins)
    begin = opset.minimum(opset.maximum(begins, number(0, begins)), size)
    end = opset.minimum(opset.maximum(ends, begin), size)
    node.input(0).replace_source_output(begin.output(0))
    node.input(1).replace_source_output(end.output(0))


def guard_boxes_per_image(node: ov.Node) -> None:
    """Cut the numbers of boxes per image so that their sum is at most the number of boxes."""
    if node.get_input_size() < 3:
        return
    counts, zero = node.input_value(2), opset.constant(np.int64(0))
    size = sizes_of(node.input_value(0), 1, counts)
    each = opset.minimum(opset.maximum(counts, number(0, counts)), size)
    ends = opset.minimum(opset.cum_sum(each, zero), size)
    begins = opset.minimum(opset.cum_sum(each, zero, exclusive=True), size)
    node.input(2).replace_source_output(opset.subtract(ends, begins).output(0))
