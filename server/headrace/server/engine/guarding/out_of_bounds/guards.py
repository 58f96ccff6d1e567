"""Keeps operations from reading or writing beyond their tensors, whatever a client sends.

The CPU plugin (openvino 2026.4) does not check every index, length and size that it takes from data. With wrong ones
some operations read or write memory that is not theirs, some leave an earlier run's result in an output, some end the
process. Operations in front bring such inputs into range and leave values that were in range unchanged; what would have
failed still fails where that is as easy. Models that cannot be guarded are refused.
"""

from __future__ import annotations

import openvino as ov

from headrace.server.engine.graph.traversal import graphs
from headrace.server.engine.guarding.out_of_bounds.counts import (
    guard_begins_and_ends,
    guard_boxes_per_image,
    guard_image_numbers,
    guard_k,
    guard_offsets,
)
from headrace.server.engine.guarding.out_of_bounds.indices import (
    guard_gather,
    guard_gather_nd,
    guard_scatter,
    guard_scatter_elements,
)
from headrace.server.engine.guarding.out_of_bounds.refusals import Guard, not_from_data, refuse, refuse_pad_value
from headrace.server.engine.guarding.out_of_bounds.values import (
    at_least,
    finite,
    guard_iterations,
    guard_step,
    replaced,
)
from headrace.server.engine.guarding.out_of_bounds.widths import guard_matmul, guard_recurrence


def guard_bounds(model: ov.Model) -> None:
    """Change the model, in place, so that no operation reads or writes beyond its tensors.

    Raises FailedPrecondition, which names the operation and the reason, where that is impossible; the message is for
    the operator, not for clients.
    """
    for graph in reversed([*graphs(model)]):  # bodies first, so that the outer graph is validated with changed bodies
        guarded = [node for node in graph.get_ordered_ops() if node.get_type_name() in _GUARDS]
        for node in guarded:
            _GUARDS[node.get_type_name()](node)
        if guarded:
            graph.validate_nodes_and_infer_types()


_GUARDS: dict[str, Guard] = {
    # Would read, and so reveal, memory that is not its own.
    "Col2Im": not_from_data(output_size=1, kernel_size=2),
    "EmbeddingBagOffsets": guard_offsets,
    "EmbeddingBagOffsetsSum": guard_offsets,
    "Gather": guard_gather,
    "GatherND": guard_gather_nd,
    "GRUCell": guard_recurrence(weights=2),
    "GRUSequence": guard_recurrence(weights=3),
    "LSTMCell": guard_recurrence(weights=3),
    "LSTMSequence": guard_recurrence(weights=4),
    "MatMul": guard_matmul,
    "MulticlassNms": guard_boxes_per_image,
    "RNNCell": guard_recurrence(weights=2),
    "RNNSequence": guard_recurrence(weights=3),
    "ROIAlignRotated": guard_image_numbers,
    "SliceScatter": not_from_data(start=2, stop=3, step=4, axes=5),
    "StringTensorPack": guard_begins_and_ends,
    # Would write to memory that is not its own.
    "CTCGreedyDecoderSeqLen": at_least(0, 1),
    "PriorBox": not_from_data(output_size=0, image_size=1),
    "PriorBoxClustered": not_from_data(output_size=0, image_size=1),
    "ScatterElementsUpdate": guard_scatter_elements,
    "ScatterUpdate": guard_scatter,
    "SegmentMax": at_least(0, 1),
    "SpaceToBatch": not_from_data(block_shape=1, pads=2, pads_at_the_end=3),
    # Would never end, and could not be stopped.
    "Loop": guard_iterations,
    # Would leave an earlier run's result in its output.
    "GatherTree": at_least(1, 2),
    "Pad": refuse_pad_value,
    "ROIAlign": replaced(-1, 2, 0),
    # Would end the process: for NaN, for axes that do not exist, for zero.
    "AdaptiveAvgPool": not_from_data(output_shape=1),
    "AdaptiveMaxPool": not_from_data(output_shape=1),
    "CTCLoss": refuse("takes labels and lengths from data"),
    "DFT": not_from_data(axes=1, signal_sizes=2),
    "DeformableConvolution": finite(1),
    "DeformablePSROIPooling": finite(1, 2),
    "IDFT": not_from_data(axes=1, signal_sizes=2),
    "IRDFT": not_from_data(axes=1, signal_sizes=2),
    "OneHot": at_least(0, 1),
    "RDFT": not_from_data(axes=1, signal_sizes=2),
    "ROIPooling": finite(1),
    "Range": guard_step,
    "Roll": not_from_data(axes=2),
    "Slice": not_from_data(axes=4),
    "StridedSlice": replaced(0, 3, 1),
    "TopK": guard_k,
}
"""By the type of the operation, whatever its version."""
