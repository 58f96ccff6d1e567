"""Makes the sizes of tensors match where operations do not check them, whatever shapes a client sends.

Where several inputs of a model are dynamic, a client chooses the shapes of all of them. Most operations of the CPU
plugin (openvino 2026.4) refuse shapes that do not match. Those below do not, and would read or write memory that is not
theirs. Too long tensors are cut in front of them. That changes nothing in tensors that match, and copies only where a
size is dynamic. An operation in front that raises would not be enough: the runtime does not always check a shape again
that it has refused once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import follows, graphs
from headrace.server.engine.guarding.mismatched_sizes.attention import guard_attention, guard_fused_attention
from headrace.server.engine.guarding.mismatched_sizes.detection import (
    guard_image_planes,
    guard_single_image_anchors,
    guard_top_regions,
)
from headrace.server.engine.guarding.mismatched_sizes.requirements import (
    Guard,
    all_static,
    matching,
    require_static,
    static,
)
from headrace.server.engine.guarding.mismatched_sizes.sizes import (
    cut,
    cut_to_shortest,
    inner_axis,
    rank_of,
    size_of,
    size_vector,
    vector,
)


def guard_sizes(model: ov.Model) -> None:
    """Change the model, in place, so that no operation relies on sizes that a client chooses to match each other.

    Raises FailedPrecondition, which names the operation and the reason, where that is impossible; the message is for
    the operator, not for clients.
    """
    changed = [_guard_graph(graph) for graph in reversed([*graphs(model)])]  # bodies before what contains them
    if any(changed):
        model.validate_nodes_and_infer_types()


def _guard_graph(graph: ov.Model) -> bool:
    """Whether the graph had to be changed."""
    guarded = [node for node in graph.get_ordered_ops() if node.get_type_name() in _GUARDS and _is_dynamic(node)]
    if not guarded:
        return False
    shapes = [parameter.get_partial_shape() for parameter in graph.get_parameters()]
    _set_shapes(graph, map(_with_symbols, shapes))
    changed = [_guard_operation(graph, node) for node in guarded]
    _set_shapes(graph, shapes)
    return any(changed)


def _is_dynamic(node: ov.Node) -> bool:
    return any(source.get_partial_shape().is_dynamic for source in node.input_values())


def _with_symbols(shape: ov.PartialShape) -> ov.PartialShape:
    """The shape with a symbol for each dynamic size, by which shape inference shows where the size is passed on."""
    if shape.rank.is_dynamic:
        return shape
    dimensions = [ov.Dimension(each.get_min_length(), each.get_max_length()) for each in shape]
    for dimension in dimensions:
        if dimension.is_dynamic:
            dimension.set_symbol(ov.Symbol())
    return ov.PartialShape(dimensions)


def _set_shapes(graph: ov.Model, shapes: Iterable[ov.PartialShape]) -> None:
    for parameter, shape in zip(graph.get_parameters(), shapes, strict=True):
        parameter.set_partial_shape(shape)
    graph.validate_nodes_and_infer_types()


def _guard_operation(graph: ov.Model, node: ov.Node) -> bool:
    """Whether the operation needed a guard."""
    before = len(graph.get_ops())
    _GUARDS[node.get_type_name()](node)
    changed = len(graph.get_ops()) > before
    if changed:
        graph.validate_nodes_and_infer_types()  # the sizes behind the operation have changed
    return changed


def _guard_scatter_elements(node: ov.Node) -> None:
    """Cut indices and updates to the data on every axis but the scattered one.

    The guards of bounds come first and have required a constant axis and a known rank.
    """
    data, rank = node.input_value(0), rank_of(node.input_value(0))
    assert rank is not None
    along = int(node.input_value(3).get_node().data.item()) % rank
    for axis in range(rank):
        if axis != along:
            cut(node.input(1), axis, data, axis)
            cut(node.input(2), axis, data, axis)


def _guard_gather(node: ov.Node) -> None:
    """Cut data and indices to the same number of batches."""
    batches, rank = int(node.get_attributes().get("batch_dims", 0)), rank_of(node.input_value(1))
    if batches < 0 and rank is None:
        require_static(node, 1, 0, "indices")
    for axis in range(batches if batches >= 0 else batches + (rank or 0)):
        cut_to_shortest((node.input(0), axis), (node.input(1), axis))


def _guard_matmul(node: ov.Node) -> None:
    """Bring rows to the width of constant weights, because the kernel for these does not check how wide the rows are.

    What is too wide is cut; what is too narrow is filled up with its last element.
    """
    guard_fused_attention(node)
    attributes = node.get_attributes()
    for index, weights, rows, columns in ((0, 1, "transpose_a", "transpose_b"), (1, 0, "transpose_b", "transpose_a")):
        source, against = node.input_value(index), node.input_value(weights)
        axis = inner_axis(index, bool(attributes[rows]), rank_of(source))
        size = size_of(against, inner_axis(weights, bool(attributes[columns]), rank_of(against)))
        if size is not None and size_of(source, axis) is None and follows(against):
            last = opset.subtract(size_vector(source, axis), vector(1))
            indices = opset.minimum(opset.constant(np.arange(size, dtype=np.int64)), last)
            node.input(index).replace_source_output(
                opset.gather(source, indices, opset.constant(np.int64(axis))).output(0)
            )


_GUARDS: dict[str, Guard] = {
    "ExperimentalDetectronDetectionOutput": static(
        matching(((0, 0), (1, 0), (2, 0))), deltas=(1, 1), scores=(2, 1), the_image=(3, 1)
    ),
    "ExperimentalDetectronGenerateProposalsSingleImage": static(
        guard_single_image_anchors, the_image=(0, 0), deltas=(2, 0), scores=(3, 0)
    ),
    "ExperimentalDetectronTopKROIs": guard_top_regions,
    "Gather": _guard_gather,
    "GenerateProposals": static(matching(((0, 0), (2, 0), (3, 0))), images=(0, 1)),
    "I420toBGR": guard_image_planes,
    "I420toRGB": guard_image_planes,
    "MatMul": _guard_matmul,
    "NV12toBGR": guard_image_planes,
    "NV12toRGB": guard_image_planes,
    "Proposal": all_static,
    "ScaledDotProductAttention": guard_attention,
    "ScatterElementsUpdate": _guard_scatter_elements,
}
"""By the type of the operation, whatever its version."""
