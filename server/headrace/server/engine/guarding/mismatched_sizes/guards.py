"""Tensors that go together have sizes that go together, whatever a client sends.

Where several inputs of a model are dynamic, a client chooses the shapes of all of them. Most operations of the CPU
plugin (openvino 2026.4) refuse shapes that do not fit each other. Those below do not, and would read or write somebody
else's memory. What is too long is cut in front of them, which changes nothing that fits; a copy is made only where a
size is not known beforehand. An operation in front that raises instead would not do: a shape that was refused once is
not always checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import follows, graphs
from headrace.server.engine.guarding.mismatched_sizes.attention import attended, attention
from headrace.server.engine.guarding.mismatched_sizes.sizes import (
    agree,
    cut,
    inner_axis,
    length_of,
    rank_of,
    size_of,
    vector,
)
from headrace.wire.errors import FailedPrecondition, quote

Fit = Callable[[ov.Node], None]
"""Changes what feeds an operation. Raises FailedPrecondition."""
Place = tuple[int, int]
"""An input of an operation, and an axis of it, which may be counted from the end."""


def guard_sizes(model: ov.Model) -> None:
    """Change the model, in place, so that no operation relies on sizes that a client chooses to fit each other.

    Raises FailedPrecondition, which names the operation and why, where that cannot be done. The message goes to the
    operator, not to clients.
    """
    changed = [_fit(graph) for graph in reversed([*graphs(model)])]  # bodies first: what holds them sees them changed
    if any(changed):
        model.validate_nodes_and_infer_types()


def _fit(graph: ov.Model) -> bool:
    """Whether something had to be changed."""
    fitted = [node for node in graph.get_ordered_ops() if node.get_type_name() in _FITS and _dynamic(node)]
    if not fitted:
        return False
    shapes = [parameter.get_partial_shape() for parameter in graph.get_parameters()]
    _set_shapes(graph, map(_named, shapes))
    changed = [_fit_one(graph, node) for node in fitted]
    _set_shapes(graph, shapes)
    return any(changed)


def _dynamic(node: ov.Node) -> bool:
    return any(source.get_partial_shape().is_dynamic for source in node.input_values())


def _named(shape: ov.PartialShape) -> ov.PartialShape:
    """The same with a name for each size that is not known, by which it is known again where it is passed on."""
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


def _fit_one(graph: ov.Model, node: ov.Node) -> bool:
    before = len(graph.get_ops())
    _FITS[node.get_type_name()](node)
    changed = len(graph.get_ops()) > before
    if changed:
        graph.validate_nodes_and_infer_types()  # what follows has other sizes now
    return changed


def _agreeing(*groups: tuple[Place, ...]) -> Fit:
    """In each group, all have the same size."""

    def fitted(node: ov.Node) -> None:
        for group in groups:
            agree(*((node.input(index), axis) for index, axis in group if index < node.get_input_size()))

    return fitted


def _refusal(node: ov.Node, name: str) -> FailedPrecondition:
    named = f"{node.get_type_name()} {quote(node.get_friendly_name())}"
    return FailedPrecondition(f"{named} takes {name} of a size that is not known, and the runtime does not check it")


def _known(node: ov.Node, index: int, axis: int, name: str) -> None:
    if size_of(node.input_value(index), axis) is None:
        raise _refusal(node, name)


# Operations.


def _scatter_elements(node: ov.Node) -> None:
    """Indices and updates are within the data on all axes but their own. That these are known was seen to before."""
    data, rank = node.input_value(0), rank_of(node.input_value(0))
    assert rank is not None
    along = int(node.input_value(3).get_node().data.item()) % rank
    for axis in range(rank):
        if axis != along:
            cut(node.input(1), axis, data, axis)
            cut(node.input(2), axis, data, axis)


def _gather(node: ov.Node) -> None:
    """In batches, each has its own indices."""
    batches, rank = int(node.get_attributes().get("batch_dims", 0)), rank_of(node.input_value(1))
    if batches < 0 and rank is None:
        _known(node, 1, 0, "indices")
    for axis in range(batches if batches >= 0 else batches + (rank or 0)):
        agree((node.input(0), axis), (node.input(1), axis))


def _matmul(node: ov.Node) -> None:
    """Weights that are known beforehand are multiplied by a kernel that does not look at how long the rows are.

    They are brought to the right length: what is too long is cut, what is too short goes on with its last element.
    """
    attended(node)
    attributes = node.get_attributes()
    for index, weights, rows, columns in ((0, 1, "transpose_a", "transpose_b"), (1, 0, "transpose_b", "transpose_a")):
        source, against = node.input_value(index), node.input_value(weights)
        axis = inner_axis(index, bool(attributes[rows]), rank_of(source))
        size = size_of(against, inner_axis(weights, bool(attributes[columns]), rank_of(against)))
        if size is not None and size_of(source, axis) is None and follows(against):
            last = opset.subtract(length_of(source, axis), vector(1))
            indices = opset.minimum(opset.constant(np.arange(size, dtype=np.int64)), last)
            node.input(index).replace_source_output(
                opset.gather(source, indices, opset.constant(np.int64(axis))).output(0)
            )


def _knowing(fitted: Fit, **places: Place) -> Fit:
    """These sizes, by what the inputs are called, must be known. Then the rest."""

    def known(node: ov.Node) -> None:
        for name, (index, axis) in places.items():
            if index < node.get_input_size():
                _known(node, index, axis, name.replace("_", " "))
        fitted(node)

    return known


def _anchors_of_one(node: ov.Node) -> None:
    """An anchor for each score; where there are too few, the last one stands for the rest."""
    _agreeing(((2, 1), (3, 1)), ((2, 2), (3, 2)))(node)
    anchors, scores = node.input_value(1), node.input_value(3)
    if size_of(anchors, 0) is not None and scores.get_partial_shape().is_static:
        return
    zero, one = (opset.constant(np.int64(value)) for value in (0, 1))
    count = opset.reduce_prod(opset.shape_of(scores, "i64"), zero, False)
    indices = opset.minimum(opset.range(zero, count, one, "i64"), opset.subtract(length_of(anchors, 0), one))
    node.input(1).replace_source_output(opset.gather(anchors, indices, zero).output(0))


def _best_regions(node: ov.Node) -> None:
    """A score for each region, and as many as are asked for: where there are too few, the last one stands for the rest,
    which would be left as they were."""
    _agreeing(((0, 0), (1, 0)))(node)
    count, wanted = size_of(node.input_value(1), 0), int(node.get_attributes()["max_rois"])
    if count is not None and count >= wanted:
        return
    length = length_of(node.input_value(1), 0)
    zero, one = (opset.constant(np.int64(value)) for value in (0, 1))
    upto = opset.reduce_max(opset.maximum(length, vector(wanted)), zero, False)
    indices = opset.minimum(opset.range(zero, upto, one, "i64"), opset.subtract(length, one))
    for at in node.inputs():
        at.replace_source_output(opset.gather(at.get_source_output(), indices, zero).output(0))


def _planes(node: ov.Node) -> None:
    for index in range(node.get_input_size()):
        for axis in (1, 2):
            _known(node, index, axis, "an image")
    agree(*((at, 0) for at in node.inputs()))


def _all_known(node: ov.Node) -> None:
    for index in range(node.get_input_size()):
        if node.get_input_partial_shape(index).is_dynamic:
            raise _refusal(node, "an input")


_FITS: dict[str, Fit] = {
    "ExperimentalDetectronDetectionOutput": _knowing(
        _agreeing(((0, 0), (1, 0), (2, 0))), deltas=(1, 1), scores=(2, 1), the_image=(3, 1)
    ),
    "ExperimentalDetectronGenerateProposalsSingleImage": _knowing(
        _anchors_of_one, the_image=(0, 0), deltas=(2, 0), scores=(3, 0)
    ),
    "ExperimentalDetectronTopKROIs": _best_regions,
    "Gather": _gather,
    "GenerateProposals": _knowing(_agreeing(((0, 0), (2, 0), (3, 0))), images=(0, 1)),
    "I420toBGR": _planes,
    "I420toRGB": _planes,
    "MatMul": _matmul,
    "NV12toBGR": _planes,
    "NV12toRGB": _planes,
    "Proposal": _all_known,
    "ScaledDotProductAttention": attention,
    "ScatterElementsUpdate": _scatter_elements,
}
"""By the type of the operation, whatever its version."""
