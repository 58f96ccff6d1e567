"""Operations whose inputs must match, which the runtime checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from openvino import (
    opset1,
    opset3,
    opset4,
    opset5,
    opset6,
    opset7,
    opset8,
    opset9,
    opset13,
    opset15,
    opset16,
)

from tests.server.engine.example import real, whole
from tests.server.engine.guarding.mismatched_sizes.fitted import (
    ATTENTION,
    SCATTERED,
    Fitting,
    Given,
    Shape,
    floats,
    integers,
    updated,
    zeros,
)


def _cell(kind: str, gates: int) -> Callable[..., Any]:
    weights = [real(np.full(shape, 0.1)) for shape in ((gates * 5, 3), (gates * 5, 5), (gates * 5,))]
    opset = opset4 if kind == "lstm_cell" else opset3
    return lambda x, *states: getattr(opset, kind)(x, *states, *weights, 5).output(0)


def _sequence(kind: str, gates: int) -> Callable[..., Any]:
    weights = [real(np.full(shape, 0.1)) for shape in ((1, gates * 5, 3), (1, gates * 5, 5), (1, gates * 5))]
    return lambda x, *rest: getattr(opset5, kind)(x, *rest, *weights, 5, "forward").output(0)


def _best(opset: Any) -> Callable[..., Any]:
    return lambda boxes, scores: opset.non_max_suppression(boxes, scores, whole(3), real(0.5), real(0.1)).output(0)


PAIR = (floats(3, 4), floats(3, 4))
UNPAIRED: tuple[Mapping[int, Shape], ...] = ({0: (200, 4)}, {1: (3, 200)}, {0: (2, 4)})
STATE = floats(2, 5)
WINDOW = ([1, 1], [0, 0], [0, 0], [1, 1])

REFUSED: dict[str, Fitting] = {
    "Add-1": Fitting(PAIR, UNPAIRED, opset1.add),
    "Add-1, Multiply-1 and Relu-1": Fitting(
        (*PAIR, floats(3, 4)),
        (*UNPAIRED, {2: (200, 4)}),
        lambda x, y, z: opset1.relu(opset1.multiply(opset1.add(x, y), z)),
    ),
    "Select-1": Fitting(
        (Given((3, 4), 1, "boolean"), *PAIR), ({0: (200, 4)}, {1: (3, 200)}, {2: (2, 4)}), opset1.select
    ),
    "PRelu-1": Fitting((floats(2, 4, 8), floats(4)), ({1: (200,)}, {0: (2, 200, 8)}), opset1.prelu),
    "FakeQuantize-1": Fitting(
        (floats(2, 4), zeros(1, 4), floats(1, 4)),
        ({1: (1, 200)}, {2: (200, 4)}),
        lambda x, low, high: opset1.fake_quantize(x, low, high, low, high, 256),
    ),
    "Concat-1": Fitting(
        (floats(3, 4), floats(3, 2)), ({0: (200, 4)}, {1: (1, 2)}), lambda x, y: opset1.concat([x, y], 1)
    ),
    "MatMul-1": Fitting(
        (floats(3, 4), floats(4, 5)), ({0: (3, 200)}, {1: (1, 5)}), lambda x, y: opset1.matmul(x, y, False, False)
    ),
    "MatMul-1 in batches": Fitting(
        (floats(2, 3, 4), floats(2, 4, 5)),
        ({0: (200, 3, 4)}, {1: (3, 4, 5)}),
        lambda x, y: opset1.matmul(x, y, False, False),
    ),
    "Convolution-1": Fitting(
        (floats(2, 3, 8, 8),),
        ({0: (2, 1, 8, 8)}, {0: (2, 200, 8, 8)}),
        lambda x: opset1.convolution(x, real(np.ones((4, 3, 3, 3))), *WINDOW),
    ),
    "DeformableConvolution-8": Fitting(
        (floats(2, 2, 6, 6), zeros(2, 18, 4, 4)),
        ({1: (1, 18, 4, 4)}, {0: (200, 2, 6, 6)}, {1: (2, 18, 1, 4)}),
        lambda x, offsets: opset8.deformable_convolution(x, offsets, real(np.ones((2, 2, 3, 3))), *WINDOW),
    ),
    "Einsum-7": Fitting(
        (floats(2, 3, 4), floats(2, 5, 4)),
        ({0: (200, 3, 4)}, {1: (2, 5, 200)}),
        lambda x, y: opset7.einsum([x, y], "bij,bkj->bik"),
    ),
    "ScaledDotProductAttention-13": Fitting(
        ATTENTION,
        ({0: (200, 2, 4, 16)}, {1: (3, 2, 6, 16)}),
        opset13.scaled_dot_product_attention,
    ),
    "GatherElements-6": Fitting(
        (floats(3, 4), integers(3, 2)), ({1: (200, 2)}, {0: (1, 4)}), lambda x, i: opset6.gather_elements(x, i, 1)
    ),
    "GatherND-8 in batches": Fitting(
        (floats(3, 4, 5), Given((3, 1), 0, "i32", (1,))),
        ({0: (200, 4, 5)}, {1: (1, 1)}, {1: (200, 1)}),
        lambda x, i: opset8.gather_nd(x, i, 1),
    ),
    "GatherTree-1": Fitting(
        (integers(3, 2, 4), integers(3, 2, 4), integers(2, filled=3)),
        ({1: (200, 2, 4)}, {0: (3, 2, 200)}, {2: (200,)}),
        lambda steps, parents, longest: opset1.gather_tree(
            steps, parents, longest, opset1.constant(np.array(9, np.int32))
        ),
    ),
    "ScatterUpdate-3": Fitting(
        (floats(3, 4), integers(2), floats(2, 4)),
        ({1: (200,)}, {2: (200, 4)}, {2: (2, 200)}, {2: (1, 4)}),
        lambda x, i, u: opset3.scatter_update(x, i, u, whole(0)),
    ),
    "ScatterUpdate-3 of a short vector": Fitting(
        (integers(6), integers(2), integers(2)),
        ({1: (1,)}, {1: (200,)}, {2: (200,)}, {2: (5000,)}),
        lambda x, i, u: opset3.scatter_update(x, i, u, whole(0)),
    ),
    "ScatterNDUpdate-4": Fitting(
        (floats(3, 4), Given((2, 1), 0, "i32", (1,)), floats(2, 4)),
        ({1: (200, 1)}, {2: (200, 4)}, {2: (2, 1)}),
        opset4.scatter_nd_update,
    ),
    "ScatterNDUpdate-15": Fitting(
        (floats(3, 4), Given((2, 1), 0, "i32", (1,)), floats(2, 4)),
        ({1: (200, 1)}, {2: (200, 4)}, {2: (2, 1)}),
        lambda x, i, u: opset15.scatter_nd_update(x, i, u, "sum"),
    ),
    "ScatterElementsUpdate-3": Fitting(SCATTERED, ({1: (2, 2)}, {2: (3, 200)}), updated(1)),
    "SliceScatter-15": Fitting(
        (floats(4, 6), floats(4, 2)),
        ({0: (200, 6)}, {1: (4, 200)}, {1: (1, 2)}),
        lambda x, u: opset15.slice_scatter(x, u, whole([0]), whole([2]), whole([1]), whole([1])),
    ),
    "ReverseSequence-1": Fitting(
        (floats(3, 4), integers(3, filled=2)),
        ({0: (200, 4)}, {1: (1,)}, {1: (200,)}),
        lambda x, lengths: opset1.reverse_sequence(x, lengths, 0, 1),
    ),
    "EmbeddingSegmentsSum-3": Fitting(
        (floats(5, 4), integers(6), integers(6)),
        ({1: (200,)}, {2: (1,)}),
        lambda x, i, s: opset3.embedding_segments_sum(x, i, s, opset1.constant(np.array(2, np.int32))),
    ),
    "SegmentMax-16": Fitting(
        (floats(6, 4), integers(6)),
        ({0: (1, 4)}, {1: (200,)}),
        lambda x, i: opset16.segment_max(x, i, whole(2), "ZERO"),
    ),
    "SearchSorted-15": Fitting(
        (floats(3, 4), floats(3, 2)), ({0: (1, 4)}, {1: (200, 2)}), lambda x, y: opset15.search_sorted(x, y)
    ),
    "LSTMCell-4": Fitting(
        (floats(2, 3), STATE, STATE),
        ({0: (200, 3)}, {0: (2, 200)}, {1: (1, 5)}, {2: (2, 200)}),
        _cell("lstm_cell", 4),
    ),
    "GRUCell-3": Fitting((floats(2, 3), STATE), ({0: (200, 3)}, {1: (1, 5)}, {1: (2, 200)}), _cell("gru_cell", 3)),
    "LSTMSequence-5": Fitting(
        (floats(2, 4, 3), floats(2, 1, 5), floats(2, 1, 5), integers(2, filled=4)),
        ({0: (200, 4, 3)}, {1: (1, 1, 5)}, {2: (200, 1, 5)}, {3: (1,)}, {0: (2, 4, 200)}),
        _sequence("lstm_sequence", 4),
    ),
    "GRUSequence-5": Fitting(
        (floats(2, 4, 3), floats(2, 1, 5), integers(2, filled=4)),
        ({0: (200, 4, 3)}, {1: (1, 1, 5)}, {2: (200,)}),
        _sequence("gru_sequence", 3),
    ),
    "CTCGreedyDecoder-1": Fitting(
        (floats(4, 2, 3), floats(4, 2, filled=1)),
        ({0: (200, 2, 3)}, {1: (4, 1)}),
        lambda x, mask: opset1.ctc_greedy_decoder(x, mask, True),
    ),
    "CTCGreedyDecoderSeqLen-6": Fitting(
        (floats(2, 4, 3), integers(2, filled=4)),
        ({0: (200, 4, 3)}, {1: (1,)}),
        lambda x, lengths: opset6.ctc_greedy_decoder_seq_len(
            x, lengths, opset1.constant(np.array([2], np.int32))
        ).output(0),
    ),
    "NonMaxSuppression-5": Fitting(
        (floats(2, 6, 4, known=(2,)), floats(2, 3, 6)),
        ({0: (1, 6, 4)}, {1: (2, 3, 200)}, {1: (200, 3, 6)}),
        _best(opset5),
    ),
    "NonMaxSuppression-9": Fitting(
        (floats(2, 6, 4, known=(2,)), floats(2, 3, 6)), ({0: (1, 6, 4)}, {1: (2, 3, 200)}), _best(opset9)
    ),
    "MatrixNms-8": Fitting(
        (floats(2, 6, 4, known=(2,)), floats(2, 3, 6)),
        ({0: (1, 6, 4)}, {1: (2, 3, 200)}),
        lambda boxes, scores: opset8.matrix_nms(boxes, scores, nms_top_k=3, keep_top_k=5).output(0),
    ),
    "MulticlassNms-9": Fitting(
        (floats(2, 6, 4, known=(2,)), floats(2, 3, 6)),
        ({0: (1, 6, 4)}, {1: (2, 3, 200)}),
        lambda boxes, scores: opset9.multiclass_nms(boxes, scores).output(0),
    ),
    "ROIAlign-9": Fitting(
        (floats(2, 3, 8, 8), floats(4, 4, known=(1,)), integers(4)),
        ({1: (200, 4)}, {2: (1,)}),
        lambda x, boxes, images: opset9.roi_align(x, boxes, images, 2, 2, 2, 1.0, "avg"),
    ),
    "ROIAlignRotated-15": Fitting(
        (floats(2, 3, 8, 8), floats(4, 5, known=(1,)), integers(4)),
        ({1: (200, 5)}, {2: (1,)}),
        lambda x, boxes, images: opset15.roi_align_rotated(x, boxes, images, 2, 2, 2, 1.0, True),
    ),
    "GridSample-9": Fitting(
        (floats(2, 3, 4, 5), zeros(2, 3, 3, 2)),
        ({0: (1, 3, 4, 5)}, {1: (200, 3, 3, 2)}, {1: (2, 3, 3, 1)}),
        lambda x, grid: opset9.grid_sample(x, grid, {}),
    ),
}
"""What the runtime checks: it raises for these shapes, each time."""
