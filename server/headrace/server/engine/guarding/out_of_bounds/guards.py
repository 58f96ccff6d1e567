"""Operations that read or write beyond their tensors are kept from it, whatever a client sends.

The CPU plugin (openvino 2026.4) does not check every index, length and size that it takes from data: some make it read
or write somebody else's memory, some leave in an output what was there before, some end the process. Such inputs are
brought into range by operations in front of them, which change nothing that was in range; what would have failed still
fails where that is as easy. Models that cannot be helped so are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.graph.traversal import ancestors, follows, graphs
from headrace.wire.errors import FailedPrecondition, quote

Guard = Callable[[ov.Node], None]
"""Changes what feeds an operation. Raises FailedPrecondition."""

_COMPUTED_AS_I32 = {"i16", "u16", "i32", "u32", "i64", "u64"}
_LARGEST = float(1 << 24)
"""Of a coordinate: more than any image is wide, and far from where floats do not fit integers."""


def guard_bounds(model: ov.Model) -> None:
    """Change the model, in place, so that no operation reads or writes beyond its tensors.

    Raises FailedPrecondition, which names the operation and why, where that cannot be done. The message goes to the
    operator, not to clients.
    """
    for graph in reversed([*graphs(model)]):  # bodies first, so that what holds them is validated with them changed
        guarded = [node for node in graph.get_ordered_ops() if node.get_type_name() in _GUARDS]
        for node in guarded:
            _GUARDS[node.get_type_name()](node)
        if guarded:
            graph.validate_nodes_and_infer_types()


def _refusal(node: ov.Node, what: str, why: str = "the runtime does not check them") -> FailedPrecondition:
    return FailedPrecondition(f"{node.get_type_name()} {quote(node.get_friendly_name())} {what}, and {why}")


# What cannot be helped.


def _must_follow(**inputs: int) -> Guard:
    """These inputs, by what they are called, must not depend on data."""

    def refuse(node: ov.Node) -> None:
        for name, index in inputs.items():
            if index < node.get_input_size() and not follows(node.input_value(index)):
                raise _refusal(node, f"takes its {name.replace('_', ' ')} from data")

    return refuse


def _refuse_always(node: ov.Node) -> None:
    raise _refusal(node, "takes labels and lengths")


def _padding(node: ov.Node) -> None:
    """What is put around the first data of a shape is put around all later data of that shape."""
    if node.get_input_size() < 4 or node.get_output_partial_shape(0).is_static or follows(node.input_value(3)):
        return
    raise _refusal(node, "takes what it pads with from data", "the runtime goes on with what it was given first")


# Numbers that are brought into range.


def _replace(node: ov.Node, index: int, change: Callable[[ov.Output], ov.Node]) -> None:
    """Put operations between an input and its source, unless the source is a constant or there is no such input."""
    if index < node.get_input_size() and node.input_value(index).get_node().get_type_name() != "Constant":
        node.input(index).replace_source_output(change(node.input_value(index)).output(0))


def _number(value: int, like: ov.Output) -> ov.Node:
    return opset.constant(value, like.get_element_type())


def _at_least(least: int, *indices: int) -> Guard:
    def raise_to(node: ov.Node) -> None:
        for index in indices:
            _replace(node, index, lambda source: opset.maximum(source, _number(least, source)))

    return raise_to


def _iterations(node: ov.Node) -> None:
    """A negative number stands for as many as the body wants, which never ends if the body has no say in it."""
    results, (_, condition) = node.get_function().get_results(), node.get_special_body_ports()
    if condition < 0 or follows(results[condition].input_value(0)):
        _at_least(0, 0)(node)


def _other_than(value: int, index: int, instead: int) -> Guard:
    def change(source: ov.Output) -> ov.Node:
        return opset.select(opset.equal(source, _number(value, source)), _number(instead, source), source)

    return lambda node: _replace(node, index, change)


def _step(node: ov.Node) -> None:
    if node.input_value(node.get_input_size() - 1).get_element_type().is_integral():
        _other_than(0, node.get_input_size() - 1, 1)(node)


def _finite(*indices: int) -> Guard:
    """Numbers instead of NaN, and none so large that it is no integer any more."""

    def change(source: ov.Output) -> ov.Node:
        number = opset.select(opset.is_nan(source), opset.convert_like(opset.constant(np.float32(0)), source), source)
        return opset.clamp(number, -_LARGEST, _LARGEST)

    def guarded(node: ov.Node) -> None:
        for index in indices:
            _replace(node, index, change)

    return guarded


# Indices, and the sizes that they must not reach.


def _sizes(source: ov.Output, axes: list[int] | int, like: ov.Output) -> ov.Node:
    """The sizes of some axes of a tensor, or the size of one, in another's element type."""
    shape = opset.shape_of(source, "i64")
    sizes = opset.gather(shape, opset.constant(np.array(axes, np.int64)), opset.constant(np.int64(0)))
    return opset.convert(sizes, like.get_element_type().to_string())


def _wide(source: ov.Output) -> ov.Output:
    """The indices in a type that holds every size."""
    if source.get_element_type().to_string() in ("i32", "i64"):
        return source
    return opset.convert(source, "i64").output(0)


def _between(source: ov.Output, least: ov.Node, size: ov.Node) -> ov.Node:
    """At least `least`, and less than `size`."""
    return opset.minimum(opset.maximum(source, least), opset.subtract(size, _number(1, size.output(0))))


def _gather(node: ov.Node) -> None:
    """Vectors of few integers are read at any index; what is not found in a table of bytes is left as it was."""
    _same_batches(node)
    data, indices, axis = (node.input_value(index) for index in range(3))
    rank = data.get_partial_shape().rank
    short = (rank.is_dynamic or rank.get_length() <= 1) and data.get_element_type().to_string() in _COMPUTED_AS_I32
    if not short and not _compressed(data):
        return
    negative = node.get_type_info().version_id not in ("opset1", "opset7")
    if rank.is_dynamic or (rank.get_length() > 1 and axis.get_node().get_type_name() != "Constant"):
        raise _refusal(node, "takes its indices from data, and its axis or the rank of its tensor")
    along = int(axis.get_node().data.item()) % rank.get_length() if rank.get_length() > 1 else 0
    if _known(indices, data.get_partial_shape()[along : along + 1], node, negative):
        return
    indices = _wide(indices)
    size = _sizes(data, along, indices)
    least = opset.negative(size) if negative else _number(0, indices)
    node.input(1).replace_source_output(_between(indices, least, size).output(0))


def _same_batches(node: ov.Node) -> None:
    """Have a run fail if there are more tables than rows of indices: the runtime takes what lies behind for these.

    A zero for each table is added to its indices. It is computed from data, or the runtime would leave the sum away.
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


def _compressed(data: ov.Output) -> bool:
    """Whether it is computed from constants of a byte or less, as compressed weights are."""
    return follows(data) and any(
        node.get_type_name() == "Constant" and node.get_element_type().bitwidth <= 8 for node in ancestors(data)
    )


def _gather_nd(node: ov.Node) -> None:
    data, indices = node.input_value(0), node.input_value(1)
    shape, batch_dims = indices.get_partial_shape(), int(node.get_attributes()["batch_dims"])
    if shape.rank.is_dynamic or shape[shape.rank.get_length() - 1].is_dynamic:
        raise _refusal(node, "takes indices for a number of axes that is not known")
    count = shape[shape.rank.get_length() - 1].get_length()
    of = data.get_partial_shape()
    axes = [*range(batch_dims, batch_dims + count)]
    if _known(indices, None if of.rank.is_dynamic else of[batch_dims : batch_dims + count], node, True):
        return
    indices = _wide(indices)
    sizes = _sizes(data, axes, indices)
    node.input(1).replace_source_output(_between(indices, opset.negative(sizes), sizes).output(0))


def _known(indices: ov.Output, sizes: ov.PartialShape | None, node: ov.Node, negative: bool) -> bool:
    """Whether the indices are constants that are known to be in range. Raises FailedPrecondition if they are not."""
    constant = indices.get_node()
    if constant.get_type_name() != "Constant" or sizes is None or sizes.is_dynamic:
        return False
    size, values = np.array(sizes.to_shape(), np.int64), constant.data.astype(np.int64)
    if ((values >= size) | (values < (-size if negative else 0))).any():
        raise _refusal(node, "has indices that are out of range")
    return True


def _scatter_elements(node: ov.Node) -> None:
    """Indices that are too low become too high, which the runtime notices."""
    data, axis = node.input_value(0), node.input_value(3).get_node()
    rank = data.get_partial_shape().rank
    if axis.get_type_name() != "Constant" or rank.is_dynamic:
        raise _refusal(node, "takes its axis from data, or indices for a number of axes that is not known")
    along = int(axis.data.item()) % rank.get_length()
    indices = _wide(node.input_value(1))
    size = _sizes(data, along, indices)
    checked = opset.select(opset.less(indices, opset.negative(size)), size, indices)
    node.input(1).replace_source_output(checked.output(0))


def _scatter(node: ov.Node) -> None:
    """Numbers of short vectors are written at any index, as many as there are; what is scattered in a row of rows is
    looked at before it is written."""
    data, indices = node.input_value(0), node.input_value(1)
    rank, of = data.get_partial_shape().rank, indices.get_partial_shape().rank
    short = (rank.is_dynamic or rank.get_length() <= 1) and data.get_element_type().to_string() in _COMPUTED_AS_I32
    if not short or (of.is_static and of.get_length() > 1):
        return
    axes = opset.constant(np.arange(2 if of.is_dynamic or of.get_length() == 0 else 1, dtype=np.int64))
    for index in (1, 2):
        node.input(index).replace_source_output(opset.unsqueeze(node.input_value(index), axes).output(0))


def _largest(node: ov.Node) -> None:
    """How many, at least one and at most as many as there are: otherwise the second such run ends the process."""
    data, axis = node.input_value(0), int(node.get_attributes()["axis"])
    rank = data.get_partial_shape().rank
    if rank.is_dynamic:
        raise _refusal(node, "takes the largest along an axis that is not known")

    def change(source: ov.Output) -> ov.Node:
        return opset.minimum(opset.maximum(source, _number(1, source)), _sizes(data, axis % rank.get_length(), source))

    _replace(node, 1, change)


def _offsets(node: ov.Node) -> None:
    """Where bags begin, at most at the end: the last ones may then be empty, which the runtime refuses."""
    indices = node.input_value(1)
    _replace(node, 2, lambda source: opset.minimum(source, _sizes(indices, 0, source)))


def _images(node: ov.Node) -> None:
    data = node.input_value(0)

    def change(source: ov.Output) -> ov.Node:
        return _between(source, _number(0, source), _sizes(data, 0, source))

    _replace(node, 2, change)


def _string_ends(node: ov.Node) -> None:
    """Each string begins within the symbols, and ends neither before nor beyond."""
    begins, ends, symbols = (node.input_value(index) for index in range(3))
    size = _sizes(symbols, 0, begins)
    begin = opset.minimum(opset.maximum(begins, _number(0, begins)), size)
    end = opset.minimum(opset.maximum(ends, begin), size)
    node.input(0).replace_source_output(begin.output(0))
    node.input(1).replace_source_output(end.output(0))


def _boxes_of_images(node: ov.Node) -> None:
    """How many boxes each image has: no more together than there are."""
    if node.get_input_size() < 3:
        return
    counts, zero = node.input_value(2), opset.constant(np.int64(0))
    size = _sizes(node.input_value(0), 1, counts)
    each = opset.minimum(opset.maximum(counts, _number(0, counts)), size)
    ends = opset.minimum(opset.cum_sum(each, zero), size)
    begins = opset.minimum(opset.cum_sum(each, zero, exclusive=True), size)
    node.input(2).replace_source_output(opset.subtract(ends, begins).output(0))


# Widths, which must be those of the weights.


def _fits(node: ov.Node, index: int, axis: int, size: int) -> None:
    """Have a run fail unless an input has this size. For weights the runtime takes any, and reads what lies behind."""
    shape = node.input_value(index).get_partial_shape()
    if shape[axis].is_static:
        return
    pattern = np.zeros(shape.rank.get_length(), np.int64)  # as it is
    pattern[axis] = size
    _replace(node, index, lambda source: opset.reshape(source, opset.constant(pattern), True))


def _product(node: ov.Node) -> None:
    """With weights on the right, which is what the runtime has layers of its own for; other products it checks."""
    attributes, weights = node.get_attributes(), node.input_value(1)
    shape, rank = weights.get_partial_shape(), node.input_value(0).get_partial_shape().rank
    if not follows(weights) or shape.rank.is_dynamic or rank.is_dynamic:
        return
    inner = shape[shape.rank.get_length() - (1 if attributes["transpose_b"] or shape.rank.get_length() == 1 else 2)]
    if inner.is_static:
        axis = rank.get_length() - (2 if attributes["transpose_a"] and rank.get_length() > 1 else 1)
        _fits(node, 0, axis, inner.get_length())


def _steps_of(weights: int) -> Guard:
    """What goes into a recurrence has the last size of these weights."""

    def guarded(node: ov.Node) -> None:
        shape = node.input_value(weights).get_partial_shape()
        if shape.rank.is_static and shape[shape.rank.get_length() - 1].is_static:
            rank = node.input_value(0).get_partial_shape().rank
            if rank.is_static:
                _fits(node, 0, rank.get_length() - 1, shape[shape.rank.get_length() - 1].get_length())

    return guarded


_GUARDS: dict[str, Guard] = {
    # Reads, and so shows, memory that is not its own.
    "Col2Im": _must_follow(output_size=1, kernel_size=2),
    "EmbeddingBagOffsets": _offsets,
    "EmbeddingBagOffsetsSum": _offsets,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GRUCell": _steps_of(2),
    "GRUSequence": _steps_of(3),
    "LSTMCell": _steps_of(3),
    "LSTMSequence": _steps_of(4),
    "MatMul": _product,
    "MulticlassNms": _boxes_of_images,
    "RNNCell": _steps_of(2),
    "RNNSequence": _steps_of(3),
    "ROIAlignRotated": _images,
    "SliceScatter": _must_follow(start=2, stop=3, step=4, axes=5),
    "StringTensorPack": _string_ends,
    # Writes there.
    "CTCGreedyDecoderSeqLen": _at_least(0, 1),
    "PriorBox": _must_follow(output_size=0, image_size=1),
    "PriorBoxClustered": _must_follow(output_size=0, image_size=1),
    "ScatterElementsUpdate": _scatter_elements,
    "ScatterUpdate": _scatter,
    "SegmentMax": _at_least(0, 1),
    "SpaceToBatch": _must_follow(block_shape=1, pads=2, pads_at_the_end=3),
    # Never ends, and cannot be stopped.
    "Loop": _iterations,
    # Leaves in the output what was there.
    "GatherTree": _at_least(1, 2),
    "Pad": _padding,
    "ROIAlign": _other_than(-1, 2, 0),
    # Ends the process: for numbers that are none, for axes that do not exist, for zero.
    "AdaptiveAvgPool": _must_follow(output_shape=1),
    "AdaptiveMaxPool": _must_follow(output_shape=1),
    "CTCLoss": _refuse_always,
    "DFT": _must_follow(axes=1, signal_sizes=2),
    "DeformableConvolution": _finite(1),
    "DeformablePSROIPooling": _finite(1, 2),
    "IDFT": _must_follow(axes=1, signal_sizes=2),
    "IRDFT": _must_follow(axes=1, signal_sizes=2),
    "OneHot": _at_least(0, 1),
    "RDFT": _must_follow(axes=1, signal_sizes=2),
    "ROIPooling": _finite(1),
    "Range": _step,
    "Roll": _must_follow(axes=2),
    "Slice": _must_follow(axes=4),
    "StridedSlice": _other_than(0, 3, 1),
    "TopK": _largest,
}
"""By the type of the operation, whatever its version. What each would do otherwise stands above it."""
