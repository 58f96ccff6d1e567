"""Gives operations whose input is emptied by data the right result instead of an earlier run's.

The CPU plugin (openvino 2026.4) does not execute an operation that has an empty input. Where the output has elements
all the same, as the result of a Gather from an empty table has, it keeps an earlier run's: another client's. Empty
inputs of the model are refused where that may happen (`inputs`), but data may empty a tensor inside as well: a NonZero
that finds nothing, a NonMaxSuppression without boxes. Behind such an operation the graph selects its own output or,
when an input is empty, the right one; or the input is padded in front of it. Models that cannot be guarded are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.guarding.empty_tensors import padding, selection
from headrace.server.engine.guarding.empty_tensors.loops import guard_repetition
from headrace.server.engine.guarding.empty_tensors.refusals import only_first, refuse
from headrace.server.engine.guarding.empty_tensors.sized_operations import SizedOperation, sized_operations

Guard = Callable[[ov.Node, list[int]], None]
"""Changes what is around an operation whose inputs with these indices may be empty. Raises FailedPrecondition."""

_ANY_INPUT = range(100)
"""More inputs than any of the operations below has, except for Concat."""


def guard_empty_tensors(model: ov.Model, inputs: Sequence[Port]) -> None:
    """Change the model, in place, so that every output is of its own run although data empty a tensor inside.

    `inputs` say which sizes are admitted. Raises FailedPrecondition, which names the operation and the reason, where
    that is impossible; the message is for the operator, not for clients.
    """
    for graph, operations in reversed(sized_operations(model, inputs)):  # bodies first
        guarded = [_guard_operation(each) for each in operations]
        if any(guarded):
            graph.validate_nodes_and_infer_types()


def _guard_operation(operation: SizedOperation) -> bool:
    """Whether the operation needed a guard."""
    node = operation.node
    type_name = node.get_type_name()
    if not node.get_type_info().version_id.startswith("opset") or type_name == "Concat":
        return False  # the runtime executes operations of extensions in any case
    if type_name in ("Loop", "TensorIterator"):
        return guard_repetition(operation)
    is_hazard = operation.may_be_empty if type_name in _SHAPED_BY_RUNNING else operation.may_be_empty_alone
    safe = _SAFE.get(type_name, ())
    emptied = [index for index in range(node.get_input_size()) if index not in safe and is_hazard(index)]
    if emptied:
        _GUARDS.get(type_name, refuse)(node, emptied)
    return bool(emptied)


def _each(names: str, inputs: Sequence[int] = _ANY_INPUT) -> dict[str, Sequence[int]]:
    return dict.fromkeys(names.split(), inputs)


_SAFE = {
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
"""Inputs that may be empty while an output is not: the result is right, or the run fails each time."""

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
"""Operations whose outputs get their shapes when they are executed: without execution even outputs that should be empty
keep an earlier run's elements."""

_ZEROS_WITHOUT_DATA = only_first(selection.zeros)

_GUARDS: dict[str, Guard] = {
    **dict.fromkeys(_each("GRUSequence LSTMSequence RNNSequence"), only_first(selection.initial_state)),
    **dict.fromkeys(_each("GatherElements GatherND GridSample ROIAlign TopK"), _ZEROS_WITHOUT_DATA),
    **dict.fromkeys(_each("Convolution ConvolutionBackpropData ExtractImagePatches"), _ZEROS_WITHOUT_DATA),
    **dict.fromkeys(_each("GroupConvolution GroupConvolutionBackpropData"), _ZEROS_WITHOUT_DATA),
    **dict.fromkeys(_each("AdaptiveAvgPool AdaptiveMaxPool AvgPool Interpolate SpaceToBatch"), _ZEROS_WITHOUT_DATA),
    **dict.fromkeys(_each("DFT IDFT IRDFT RDFT StridedSlice VariadicSplit"), _ZEROS_WITHOUT_DATA),
    "Einsum": selection.zeros_outside_attention,
    "Gather": selection.zeros,
    "MatMul": padding.matmul,
    "MaxPool": selection.least_value,
    "Pad": selection.pad_value,
    "ScaledDotProductAttention": padding.attention,
    "StringTensorPack": padding.string_symbols,
}
"""By the type of the operation, whatever its version. Others are refused."""
