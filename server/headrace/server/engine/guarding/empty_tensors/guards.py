"""Operations whose inputs data make empty answer with what is right, and not with what was there before.

The CPU plugin (openvino 2026.4) does not execute an operation that has an empty input. Where the output has elements
all the same, as what is gathered from an empty table has, it keeps an earlier run's: somebody else's. A model's own
inputs are refused where that may happen (`empty`), but a tensor inside becomes empty by data, too: NonZero finds
nothing, NonMaxSuppression no box. The output of such an operation is chosen behind it: its own, or what it should be
when an input is empty. Models that cannot be helped so are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.core.specs import Port
from headrace.server.engine.graph.shapes import pads_what_slides
from headrace.server.engine.graph.traversal import ancestors
from headrace.server.engine.guarding.empty_tensors.sized_operations import Copied, graphs_with_copies
from headrace.wire.errors import FailedPrecondition, quote

Guard = Callable[[ov.Node, list[int]], None]
"""Changes what is around an operation of which these inputs may be empty. Raises FailedPrecondition."""

_LARGEST = (1 << 31) - 1
_INPUTS = range(100)
"""More than any operation has that is named here, but Concat."""


def guard_empty_tensors(model: ov.Model, inputs: Sequence[Port]) -> None:
    """Change the model, in place, so that every output is of its own run although data make a tensor inside it empty.

    `inputs` say which sizes are admitted. Raises FailedPrecondition, which names the operation and why, where that
    cannot be done. The message goes to the operator, not to clients.
    """
    for graph, operations in reversed(graphs_with_copies(model, inputs)):  # bodies first
        guarded = [_guarded(each) for each in operations]
        if any(guarded):
            graph.validate_nodes_and_infer_types()


def _guarded(operation: Copied) -> bool:
    """Whether it needed a guard."""
    node = operation.node
    type_name = node.get_type_name()
    if not node.get_type_info().version_id.startswith("opset") or type_name == "Concat":
        return False  # what comes from an extension is executed in any case
    if type_name in ("Loop", "TensorIterator"):
        return _repeated(operation)
    left_over = operation.may_be_empty if type_name in _SHAPED_BY_RUNNING else operation.surviving
    right = _RIGHT.get(type_name, ())
    emptied = [index for index in range(node.get_input_size()) if index not in right and left_over(index)]
    if emptied:
        _GUARDS.get(type_name, _refuse)(node, emptied)
    return bool(emptied)


def _refuse(node: ov.Node, emptied: list[int]) -> None:
    raise FailedPrecondition(
        f"{node.get_type_name()} {quote(node.get_friendly_name())} may get an empty tensor from data,"
        " and the runtime answers that with an earlier run's result"
    )


# What is chosen behind an operation.


def _is_empty(*sources: ov.Output) -> ov.Node:
    """Whether one of them is: a boolean."""
    axes = opset.constant(np.array([0], np.int64))
    least = [opset.reduce_min(opset.shape_of(source, "i64"), axes, False) for source in sources]
    return opset.equal(reduce(opset.minimum, least), opset.constant(np.int64(0)))


def _choose(output: ov.Output, empty: ov.Node, instead: ov.Output) -> None:
    """Give what takes an output something else if `empty`."""
    _put_behind(output, lambda: opset.select(empty, instead, output))


def _put_behind(output: ov.Output, change: Callable[[], ov.Node]) -> None:
    takers = output.get_target_inputs()
    if not takers:
        return
    changed = change().output(0)
    changed.get_tensor().set_names(output.get_names())
    output.get_tensor().set_names(set())
    for taker in takers:
        taker.replace_source_output(changed)


def _number(value: float, like: ov.Output) -> ov.Output:
    return opset.constant(value, like.get_element_type()).output(0)


def _zeros(node: ov.Node, emptied: list[int]) -> None:
    """What is summed or found in nothing."""
    empty = _is_empty(*(node.input_value(index) for index in emptied))
    for output in node.outputs():
        _choose(output, empty, _number(0, output))


def _zeros_without_data(node: ov.Node, emptied: list[int]) -> None:
    """Only the first input may be empty."""
    (_zeros if emptied == [0] else _refuse)(node, emptied)


def _zeros_outside_attention(node: ov.Node, emptied: list[int]) -> None:
    """The runtime would make what is chosen part of attention, which it does not execute."""
    attention = any(each.get_type_name() == "Softmax" for each in ancestors(node.output(0)))
    (_refuse if attention else _zeros)(node, emptied)


def _largest(node: ov.Node, emptied: list[int]) -> None:
    """The largest of nothing, and where it is."""
    largest, *places = node.outputs()
    empty = _is_empty(node.input_value(0))
    dtype = np.dtype(largest.get_element_type().to_dtype())
    least = np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min
    _choose(largest, empty, _number(least, largest))
    for output in places:
        _choose(output, empty, _number(0, output))


def _padding(node: ov.Node, emptied: list[int]) -> None:
    """Pad is right, but not when it has become the padding of a convolution behind it."""
    if not pads_what_slides(node):
        return
    output = node.output(0)
    value = node.input_value(3) if node.get_input_size() > 3 else _number(0, output)
    _choose(output, _is_empty(node.input_value(0)), value)


def _first_state(node: ov.Node, emptied: list[int]) -> None:
    """After no steps a state is what it was before."""
    if emptied != [0]:
        _refuse(node, emptied)
    empty = _is_empty(node.input_value(0))
    for index, output in enumerate(node.outputs()[1:], start=1):
        _choose(output, empty, node.input_value(index))


def _repeated(operation: Copied) -> bool:
    """What takes slices of nothing may become a sequence of no steps."""
    node = operation.node
    for taken in node.get_input_descriptions():
        if isinstance(taken, ov.op.util.SliceInputDescription) and operation.may_be_empty(taken.input_index):
            _refuse(node, [taken.input_index])
    return node.get_type_name() == "Loop" and _joined(node)


def _joined(node: ov.Node) -> bool:
    """A Loop that never runs its body leaves alone what is joined of its iterations, and even its shape."""
    given = [node.input_value(index).get_node() for index in (0, 1)]
    if all(source.get_type_name() == "Constant" and source.data.all() for source in given):
        return False
    zero, one = (opset.constant(np.array([value], np.int64)) for value in (0, 1))
    count, condition = node.input_value(0), node.input_value(1)
    never = opset.logical_or(opset.equal(opset.convert(count, "i64"), zero), opset.logical_not(condition))
    end = opset.reshape(opset.select(never, zero, opset.constant(np.array([_LARGEST], np.int64))), one, False)
    for joined in node.get_output_descriptions():
        if isinstance(joined, ov.op.util.ConcatOutputDescription):
            output, axis = node.output(joined.output_index), opset.constant(np.array([joined.axis], np.int64))
            _put_behind(output, partial(opset.slice, output, zero, end, one, axis))
    return True


# What is put in front of an operation, so that nothing is empty.


def _longer(node: ov.Node, index: int, axis: int, value: float = 0) -> None:
    """Give an axis of an input one element if it has none."""
    source = node.input_value(index)
    rank = source.get_partial_shape().rank
    if rank.is_dynamic:
        _refuse(node, [index])
    axis = -1 if rank.get_length() == 1 else axis
    here = np.arange(rank.get_length()) == axis % rank.get_length()
    sizes = opset.shape_of(source, "i64")
    missing = opset.convert(opset.equal(sizes, opset.constant(np.int64(0))), "i64")
    more = opset.broadcast(_number(value, source), opset.select(opset.constant(here), missing, sizes))
    node.input(index).replace_source_output(opset.concat([source, more], axis % rank.get_length()).output(0))


def _product(node: ov.Node, emptied: list[int]) -> None:
    """Of zeros, instead of nothing: what is chosen behind it may become part of attention, which is not executed."""
    attributes = node.get_attributes()
    _longer(node, 0, -2 if attributes["transpose_a"] else -1)
    _longer(node, 1, -1 if attributes["transpose_b"] else -2)


def _attention(node: ov.Node, emptied: list[int]) -> None:
    """A key and a value of zeros where there are none."""
    if not set(emptied) <= {1, 2, 3}:
        _refuse(node, emptied)
    for index in (1, 2):
        _longer(node, index, -2)
    if 3 in emptied:
        _longer(node, 3, -1, node.input_value(3).get_element_type() == ov.Type.boolean)


def _symbols(node: ov.Node, emptied: list[int]) -> None:
    """One more, which is in no string."""
    if emptied != [2]:
        _refuse(node, emptied)
    more = opset.constant(np.array([0], np.uint8))
    node.input(2).replace_source_output(opset.concat([node.input_value(2), more], 0).output(0))


def _each(names: str, inputs: Sequence[int] = _INPUTS) -> dict[str, Sequence[int]]:
    return dict.fromkeys(names.split(), inputs)


_RIGHT = {
    **_each("Assign If ReadValue Result"),
    **_each("ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"),
    **_each("Broadcast ConvertLike OneHot Range Reshape ShapeOf Slice Split Squeeze Tile Transpose Unsqueeze"),
    **_each("StridedSlice", range(1, 4)),
    **_each("ScatterElementsUpdate ScatterNDUpdate ScatterUpdate SliceScatter"),
    **_each("Bucketize NonMaxSuppression NonZero SearchSorted SparseFillEmptyRows"),
    **_each("MVN NormalizeL2", [1]),
    **_each("EmbeddingBagOffsets EmbeddingBagOffsetsSum EmbeddingSegmentsSum", range(1, 6)),
    **_each("EmbeddingBagPacked EmbeddingBagPackedSum", range(1, 3)),
}
"""Inputs that may be empty while an output is not: it is right, or the run fails each time."""

_SHAPED_BY_RUNNING = {
    "CTCGreedyDecoderSeqLen",
    "DetectionOutput",
    "ExperimentalDetectronDetectionOutput",
    "ExperimentalDetectronGenerateProposalsSingleImage",
    "ExperimentalDetectronROIFeatureExtractor",
    "ExperimentalDetectronTopKROIs",
    "GenerateProposals",
    "MatrixNms",
    "MulticlassNms",
    "Multinomial",
    "Proposal",
    "RandomUniform",
    "StringTensorPack",
    "StringTensorUnpack",
    "Unique",
}
"""Operations whose outputs get their shapes when they are executed: those that should be empty are not, either."""

_GUARDS: dict[str, Guard] = {
    **dict.fromkeys(_each("GRUSequence LSTMSequence RNNSequence"), _first_state),
    **dict.fromkeys(_each("GatherElements GatherND GridSample ROIAlign TopK"), _zeros_without_data),
    **dict.fromkeys(_each("Convolution ConvolutionBackpropData ExtractImagePatches"), _zeros_without_data),
    **dict.fromkeys(_each("GroupConvolution GroupConvolutionBackpropData"), _zeros_without_data),
    **dict.fromkeys(_each("AdaptiveAvgPool AdaptiveMaxPool AvgPool Interpolate SpaceToBatch"), _zeros_without_data),
    **dict.fromkeys(_each("DFT IDFT IRDFT RDFT StridedSlice VariadicSplit"), _zeros_without_data),
    "Einsum": _zeros_outside_attention,
    "Gather": _zeros,
    "MatMul": _product,
    "MaxPool": _largest,
    "Pad": _padding,
    "ScaledDotProductAttention": _attention,
    "StringTensorPack": _symbols,
}
"""By the type of the operation, whatever its version. Others are refused."""
