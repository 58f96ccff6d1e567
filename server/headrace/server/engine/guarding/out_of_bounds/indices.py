"""Indices, which must be less than the sizes of the tensors that they index."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import ancestors, follows
from headrace.server.engine.guarding.out_of_bounds.refusals import refusal
from headrace.server.engine.guarding.out_of_bounds.values import number

_COMPUTED_AS_I32 = {"i16", "u16", "i32", "u32", "i64", "u64"}


def sizes_of(source: ov.Output, axes: list[int] | int, like: ov.Output) -> ov.Node:
    """The sizes of some axes of a tensor, or the size of one, in the element type of `like`."""
    shape = opset.shape_of(source, "i64")
    sizes = opset.gather(shape, opset.constant(np.array(axes, np.int64)), opset.constant(np.int64(0)))
    return opset.convert(sizes, like.get_element_type().to_string())


def between(source: ov.Output, least: ov.Node, size: ov.Node) -> ov.Node:
    """Clamp to at least `least`, and to less than `size`."""
    return opset.minimum(opset.maximum(source, least), opset.subtract(size, number(1, size.output(0))))


def guard_gather(node: ov.Node) -> None:
    """Clamp the indices where the runtime does not check them.

    From vectors of up to 64 integers it reads at any index. From a table that is computed from bytes it leaves the rows
    that it does not find as an earlier run had them.
    """
    _fail_on_missing_batches(node)
    data, indices, axis = (node.input_value(index) for index in range(3))
    rank = data.get_partial_shape().rank
    if not _is_integer_vector(data) and not _is_compressed(data):
        return
    negative = node.get_type_info().version_id not in ("opset1", "opset7")
    if rank.is_dynamic or (rank.get_length() > 1 and axis.get_node().get_type_name() != "Constant"):
        raise refusal(node, "takes its indices from data along an unknown axis")
    along = int(axis.get_node().data.item()) % rank.get_length() if rank.get_length() > 1 else 0
    if _are_in_range(indices, data.get_partial_shape()[along : along + 1], node, negative):
        return
    indices = _widened(indices)
    size = sizes_of(data, along, indices)
    least = opset.negative(size) if negative else number(0, indices)
    node.input(1).replace_source_output(between(indices, least, size).output(0))


def guard_gather_nd(node: ov.Node) -> None:
    """Clamp the indices, each to the size of its axis."""
    data, indices = node.input_value(0), node.input_value(1)
    shape, batch_dims = indices.get_partial_shape(), int(node.get_attributes()["batch_dims"])
    if shape.rank.is_dynamic or shape[shape.rank.get_length() - 1].is_dynamic:
        raise refusal(node, "takes indices for an unknown number of axes")
    count = shape[shape.rank.get_length() - 1].get_length()
    data_shape = data.get_partial_shape()
    axes = [*range(batch_dims, batch_dims + count)]
    indexed = None if data_shape.rank.is_dynamic else data_shape[batch_dims : batch_dims + count]
    if _are_in_range(indices, indexed, node, True):
        return
    indices = _widened(indices)
    sizes = sizes_of(data, axes, indices)
    node.input(1).replace_source_output(between(indices, opset.negative(sizes), sizes).output(0))


def guard_scatter_elements(node: ov.Node) -> None:
    """Make indices that are too low too high instead, because the runtime checks for those."""
    data, axis = node.input_value(0), node.input_value(3).get_node()
    rank = data.get_partial_shape().rank
    if axis.get_type_name() != "Constant" or rank.is_dynamic:
        raise refusal(node, "takes its axis from data, or indices for an unknown number of axes")
    along = int(axis.data.item()) % rank.get_length()
    indices = _widened(node.input_value(1))
    size = sizes_of(data, along, indices)
    checked = opset.select(opset.less(indices, opset.negative(size)), size, indices)
    node.input(1).replace_source_output(checked.output(0))


def guard_scatter(node: ov.Node) -> None:
    """Give indices and updates of a short integer vector a leading axis, so that a kernel that checks takes them.

    The kernel for such vectors writes as many numbers as there are updates, at any index.
    """
    data, indices = node.input_value(0), node.input_value(1)
    rank = indices.get_partial_shape().rank
    if not _is_integer_vector(data) or (rank.is_static and rank.get_length() > 1):
        return
    axes = opset.constant(np.arange(2 if rank.is_dynamic or rank.get_length() == 0 else 1, dtype=np.int64))
    for index in (1, 2):
        node.input(index).replace_source_output(opset.unsqueeze(node.input_value(index), axes).output(0))


def _is_integer_vector(data: ov.Output) -> bool:
    rank = data.get_partial_shape().rank
    return (rank.is_dynamic or rank.get_length() <= 1) and data.get_element_type().to_string() in _COMPUTED_AS_I32


def _is_compressed(data: ov.Output) -> bool:
    """Whether a tensor is computed from constants of a byte or less, as compressed weights are."""
    return follows(data) and any(
        node.get_type_name() == "Constant" and node.get_element_type().bitwidth <= 8 for node in ancestors(data)
    )


def _fail_on_missing_batches(node: ov.Node) -> None:
    """Make a run fail if there are more tables than rows of indices: the runtime would read beyond the indices.

    A zero for each table is added to its indices. It is computed from data, or the runtime would optimise the sum away.
    """
    data, indices = node.input_value(0), node.input_value(1)
    tables, rows = data.get_partial_shape(), indices.get_partial_shape()
    count = int(node.get_attributes().get("batch_dims", 0))
    if not count or tables.rank.is_dynamic or rows.rank.is_dynamic:
        return
    count %= rows.rank.get_length()
    if all(shape[axis].is_static for shape in (tables, rows) for axis in range(count)):
        return
    inner = np.arange(count, tables.rank.get_length())
    first = opset.slice(data, np.zeros_like(inner), np.ones_like(inner), np.ones_like(inner), inner)
    each = opset.reduce_min(opset.convert(first, "f32"), opset.constant(inner), False)
    zeros = opset.convert(opset.less(each, each), indices.get_element_type().to_string())
    zeros = opset.unsqueeze(zeros, opset.constant(np.arange(count, rows.rank.get_length())))
    node.input(1).replace_source_output(opset.add(indices, zeros).output(0))


def _are_in_range(indices: ov.Output, sizes: ov.PartialShape | None, node: ov.Node, negative: bool) -> bool:
    """Whether the indices are constants that are in range. Raises FailedPrecondition if they are out of range."""
    constant = indices.get_node()
    if constant.get_type_name() != "Constant" or sizes is None or sizes.is_dynamic:
        return False
    size, values = np.array(sizes.to_shape(), np.int64), constant.data.astype(np.int64)
    if ((values >= size) | (values < (-size if negative else 0))).any():
        raise refusal(node, "has indices that are out of range")
    return True


def _widened(source: ov.Output) -> ov.Output:
    """The indices in a type that holds every size."""
    if source.get_element_type().to_string() in ("i32", "i64"):
        return source
    return opset.convert(source, "i64").output(0)
