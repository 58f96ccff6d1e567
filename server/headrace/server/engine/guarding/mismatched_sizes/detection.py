"""Anchors, regions and images."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.guarding.mismatched_sizes.requirements import matching, require_static
from headrace.server.engine.guarding.mismatched_sizes.sizes import cut_to_shortest, size_of, size_vector, vector


def guard_single_image_anchors(node: ov.Node) -> None:
    """Supply an anchor for each score: where there are too few, the last one is repeated."""
    matching(((2, 1), (3, 1)), ((2, 2), (3, 2)))(node)
    anchors, scores = node.input_value(1), node.input_value(3)
    if size_of(anchors, 0) is not None and scores.get_partial_shape().is_static:
        return
    zero, one = (opset.constant(np.int64(value)) for value in (0, 1))
    count = opset.reduce_prod(opset.shape_of(scores, "i64"), zero, False)
    indices = opset.minimum(opset.range(zero, count, one, "i64"), opset.subtract(size_vector(anchors, 0), one))
    node.input(1).replace_source_output(opset.gather(anchors, indices, zero).output(0))


def guard_top_regions(node: ov.Node) -> None:
    """Supply a score for each region, and at least `max_rois` of both: where there are too few, the last is repeated.

    The runtime would leave the missing ones in the output as an earlier run had them.
    """
    matching(((0, 0), (1, 0)))(node)
    count, wanted = size_of(node.input_value(1), 0), int(node.get_attributes()["max_rois"])
    if count is not None and count >= wanted:
        return
    length = size_vector(node.input_value(1), 0)
    zero, one = (opset.constant(np.int64(value)) for value in (0, 1))
    stop = opset.reduce_max(opset.maximum(length, vector(wanted)), zero, False)
    indices = opset.minimum(opset.range(zero, stop, one, "i64"), opset.subtract(length, one))
    for target in node.inputs():
        target.replace_source_output(opset.gather(target.get_source_output(), indices, zero).output(0))


def guard_image_planes(node: ov.Node) -> None:
    """Require planes of static height and width, and cut them to the same number of images."""
    for index in range(node.get_input_size()):
        for axis in (1, 2):
            require_static(node, index, axis, "an image")
    cut_to_shortest(*((target, 0) for target in node.inputs()))
