"""Operations that have empty inputs but outputs with elements: guarded ones, and those that are right by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset1, opset3, opset4
from openvino import opset15 as op

from tests.server.engine.example import real, weights, whole
from tests.server.engine.guarding.empty_tensors.case import Array, Case, Given


def zeros(*shape: int) -> Any:
    return lambda *data: [np.zeros(shape)]


def first_input(*data: Array) -> list[Array]:
    return [data[0]]


def second_input(*data: Array) -> list[Array]:
    return [data[1]]


def _dense(a: ov.Output, b: ov.Output) -> ov.Node:
    return op.gelu(op.add(op.matmul(a, b, False, False), real(np.arange(5))), "erf")


def _attention(q: ov.Output, k: ov.Output, v: ov.Output) -> ov.Node:
    return op.matmul(op.softmax(op.multiply(op.matmul(q, k, False, True), real(0.3)), -1), v, False, False)


def _masked(q: ov.Output, k: ov.Output, v: ov.Output, mask: ov.Output) -> ov.Node:
    return op.matmul(op.softmax(op.add(op.matmul(q, k, False, True), mask), -1), v, False, False)


def _steps(x: ov.Output) -> ov.Node:
    return op.broadcast(op.gather(op.shape_of(x), whole([1]), whole(0)), whole([2]))


def _lstm(x: ov.Output, h: ov.Output, c: ov.Output) -> list[ov.Output]:
    parts = weights(1, 20, 3), weights(1, 20, 5), weights(1, 20)
    node = op.lstm_sequence(x, h, c, _steps(x), *parts, 5, "forward")
    return [node.output(1), node.output(2)]


def _gru(x: ov.Output, h: ov.Output) -> ov.Output:
    parts = weights(1, 15, 3), weights(1, 15, 5), weights(1, 15)
    return op.relu(op.gru_sequence(x, h, _steps(x), *parts, 5, "forward").output(1)).output(0)


def _rnn(x: ov.Output, h: ov.Output) -> list[ov.Output]:
    parts = weights(1, 5, 3), weights(1, 5, 5), weights(1, 5)
    return [op.rnn_sequence(x, h, _steps(x), *parts, 5, "forward").output(1)]


def _convolution(x: ov.Output) -> ov.Node:
    return op.relu(op.add(op.convolution(x, weights(2, 4, 3, 3), [1, 1], [2, 2], [2, 2], [1, 1]), real(1)))


def _padded(x: ov.Output) -> ov.Node:
    padded = op.pad(x, whole([0, 0, 2, 2]), whole([0, 0, 2, 2]), "constant", real(0))
    return op.convolution(padded, weights(2, 4, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1])


def _by_channels(x: ov.Output) -> ov.Node:
    return op.group_convolution(x, weights(4, 1, 1, 3, 3), [1, 1], [2, 2], [2, 2], [1, 1])


def _string_lengths(begins: ov.Output, ends: ov.Output, symbols: ov.Output) -> list[ov.Output]:
    packed = op.string_tensor_pack(begins, op.minimum(ends, op.convert(_size(symbols), "i32")), symbols)
    unpacked = op.string_tensor_unpack(packed)
    return [unpacked.output(0), unpacked.output(1)]


def _size(source: ov.Output) -> ov.Node:
    return op.gather(op.shape_of(source), whole([0]), whole(0))


def _loop(x: ov.Output, state: ov.Output, count: ov.Output) -> list[ov.Output]:
    """Sums the rows of x as many times as `count` has elements; also the maximum of x."""
    rows, sums = opset1.parameter([-1, 3], np.float32), opset1.parameter([1, 3], np.float32)
    more = op.add(op.add(sums, op.reduce_sum(op.exp(rows), whole([0]), True)), op.gather(rows, whole([0]), whole(0)))
    results = [op.result(more), op.result(op.constant(np.array(True)))]
    loop = op.loop(op.reshape(_size(count), whole([]), False).output(0), op.constant(np.array(True)).output(0))
    loop.set_function(ov.Model(results, [rows, sums], "body"))
    loop.set_special_body_ports([-1, 1])
    loop.set_invariant_input(rows, x)
    loop.set_merged_input(sums, state, results[0].output(0))
    return [
        loop.get_iter_value(results[0].output(0), -1),
        loop.get_concatenated_slices(results[0].output(0), 0, 1, 1, -1, 0),
    ]


def _either(x: ov.Output, y: ov.Output) -> ov.Output:
    parameters = [[opset1.parameter([-1, 3], np.float32), opset1.parameter([2, 3], np.float32)] for _ in range(2)]
    bodies = [
        ov.Model([op.result(op.add(op.gather(each[0], whole([0, 0]), whole(0)), each[1]))], each, "body")
        for each in parameters
    ]
    node = op.if_op(op.greater(op.reduce_sum(y, whole([0, 1]), False), real(0)).output(0))
    node.set_then_body(bodies[0])
    node.set_else_body(bodies[1])
    for given, first, second in zip((x, y), *parameters, strict=True):
        node.set_input(given, first, second)
    return node.set_output(*(body.get_results()[0] for body in bodies))


def _boxes(boxes: ov.Output, scores: ov.Output) -> list[ov.Output]:
    selected, _, count = op.non_max_suppression(boxes, scores, whole(3), real(0.5), real(0)).outputs()
    classes = op.reshape(op.gather(selected, whole(1), whole(1)), whole([-1]), False)
    return [count, op.reduce_sum(op.add(classes, whole(1)), whole([0]), False).output(0)]


def _reduced(x: ov.Output) -> list[ov.Node]:
    """Reductions with an operation behind them that the runtime fuses with them."""
    reduced = (op.reduce_sum, op.reduce_mean, op.reduce_prod, op.reduce_l1, op.reduce_l2)
    others = [op.exp(op.negative(op.reduce_max(x, whole([0]), True))), op.relu(op.reduce_max(x, whole([0]), False))]
    return [op.relu(op.add(op.multiply(each(x, whole([0]), True), real(2)), real(1))) for each in reduced] + others


def _logical(x: ov.Output) -> list[ov.Node]:
    flags = op.convert(x, "boolean")
    return [op.logical_not(each(flags, whole([0]), False)) for each in (op.reduce_logical_and, op.reduce_logical_or)]


_LEAST = [np.full((1, 3), np.inf), np.zeros(3)]

ROWS = Given((4, 3), 0)
I64_ROWS = Given((4, 3), 0, np.int64)
INDICES = Given((2,), dtype=np.int64, below=1)
IMAGE = Given((1, 4, 5, 5), 2)
KEYS = Given((1, 2, 4, 8), 2)
QUERY = Given((1, 2, 3, 8))
STEPS = Given((2, 4, 3), 1)
STATE = Given((2, 1, 5))

CASES: dict[str, Case] = {
    # What is found in nothing.
    "Gather": Case((ROWS, INDICES), lambda x, i: op.gather(x, i, whole(0)), zeros(2, 3)),
    "Gather of i64": Case((I64_ROWS, INDICES), lambda x, i: op.gather(x, i, whole(0)), zeros(2, 3)),
    "Gather in batches": Case(
        (Given((2, 4, 3), 1), Given((2, 2), dtype=np.int64, below=1)),
        lambda x, i: op.gather(x, i, whole(1), 1),
        zeros(2, 2, 3),
    ),
    "Gather of one axis": Case((Given((4,), 0, np.int64), INDICES), lambda x, i: op.gather(x, i, whole(0)), zeros(2)),
    "Gather and more": Case(
        (ROWS, INDICES),
        lambda x, i: op.relu(op.add(op.gather(x, i, whole(0)), real(2))),
        lambda *_: [np.full((2, 3), 2)],
    ),
    "GatherElements": Case(
        (ROWS, Given((2, 3), dtype=np.int64, below=1)), lambda x, i: op.gather_elements(x, i, 0), zeros(2, 3)
    ),
    "GatherND": Case((ROWS, Given((2, 1), dtype=np.int64, below=1)), lambda x, i: op.gather_nd(x, i, 0), zeros(2, 3)),
    "TopK": Case(
        (ROWS,), lambda x: op.topk(x, whole(1), 0, "max", "value").outputs(), lambda x: [np.zeros((1, 3))] * 2
    ),
    "ROIAlign": Case(
        (Given((1, 3, 8, 8), 2), Given((2, 4)), Given((2,), dtype=np.int64, below=1)),
        lambda x, boxes, images: op.roi_align(x, boxes, images, 2, 2, 2, 1.0, "avg"),
        zeros(2, 3, 2, 2),
    ),
    "Interpolate": Case(
        (IMAGE,), lambda x: op.interpolate(x, whole([3, 3]), "nearest", "sizes", axes=whole([2, 3])), zeros(1, 4, 3, 3)
    ),
    "AdaptiveAvgPool": Case((IMAGE,), lambda x: op.adaptive_avg_pool(x, whole([2, 2])), zeros(1, 4, 2, 2)),
    "AdaptiveMaxPool": Case(
        (IMAGE,), lambda x: op.adaptive_max_pool(x, whole([2, 2]), "i32").output(0), zeros(1, 4, 2, 2)
    ),
    "StridedSlice": Case(
        (ROWS,),
        lambda x: op.strided_slice(x, whole([0, 0]), whole([1, 0]), whole([1, 1]), [0, 1], [0, 1], [], [1, 0]),
        zeros(3),
    ),
    "VariadicSplit": Case(
        (ROWS,),
        lambda x: op.variadic_split(x, whole(0), whole([1, -1])).outputs(),
        lambda x: [np.zeros((1, 3)), np.zeros((0, 3))],
    ),
    # Sums of nothing.
    "MatMul": Case((Given((3, 4), 1), Given((4, 5), 0)), lambda a, b: op.matmul(a, b, False, False), zeros(3, 5)),
    "MatMul, transposed": Case(
        (Given((4, 3), 0), Given((5, 4), 1)), lambda a, b: op.matmul(a, b, True, True), zeros(3, 5)
    ),
    "MatMul of i32": Case(
        (Given((3, 4), 1, np.int32), Given((4, 5), 0, np.int32)),
        lambda a, b: op.matmul(a, b, False, False),
        zeros(3, 5),
    ),
    "MatMul of vectors": Case((Given((4,), 0), Given((4, 5), 0)), lambda a, b: op.matmul(a, b, False, False), zeros(5)),
    "MatMul and more": Case(
        (Given((3, 4), 1), Given((4, 5), 0)),
        _dense,
        lambda *_: [np.tile([0, 0.8413447, 1.9544997, 2.9959502, 3.9998733], (3, 1))],
    ),
    "attention": Case((QUERY, KEYS, KEYS), _attention, zeros(1, 2, 3, 8)),
    "attention with a mask": Case((QUERY, KEYS, KEYS, Given((1, 1, 3, 4), 3)), _masked, zeros(1, 2, 3, 8)),
    "ScaledDotProductAttention": Case((QUERY, KEYS, KEYS), op.scaled_dot_product_attention, zeros(1, 2, 3, 8)),
    "ScaledDotProductAttention, causal": Case(
        (QUERY, KEYS, KEYS), lambda q, k, v: op.scaled_dot_product_attention(q, k, v, causal=True), zeros(1, 2, 3, 8)
    ),
    "ScaledDotProductAttention with a mask": Case(
        (QUERY, KEYS, KEYS, Given((3, 4), 1)), op.scaled_dot_product_attention, zeros(1, 2, 3, 8)
    ),
    "ScaledDotProductAttention with flags": Case(
        (QUERY, KEYS, KEYS, Given((3, 4), 1, np.int32)),
        lambda q, k, v, flags: op.scaled_dot_product_attention(q, k, v, op.less(flags, op.constant(np.int32(2)))),
        zeros(1, 2, 3, 8),
    ),
    "Einsum": Case((Given((3, 4), 1), Given((4, 5), 0)), lambda a, b: op.einsum([a, b], "ij,jk->ik"), zeros(3, 5)),
    "DFT": Case((Given((4, 2), 0),), lambda x: op.dft(x, whole([0]), whole([4])), zeros(4, 2)),
    "RDFT": Case((Given((4,), 0),), lambda x: op.rdft(x, whole([0]), whole([4])), zeros(3, 2), False),
    "IRDFT": Case((Given((3, 2), 0),), lambda x: op.irdft(x, whole([0]), whole([4])), zeros(4)),
    # Nothing but padding.
    "Convolution": Case((IMAGE,), _convolution, lambda x: [np.ones((1, 2, 2, 7))]),
    "Convolution of Pad": Case((IMAGE,), _padded, zeros(1, 2, 2, 7)),
    "GroupConvolution": Case((IMAGE,), _by_channels, zeros(1, 4, 2, 7)),
    "AvgPool": Case((IMAGE,), lambda x: op.avg_pool(x, [1, 1], [2, 2], [2, 2], [3, 3], False), zeros(1, 4, 2, 7)),
    "MaxPool": Case(
        (IMAGE,),
        lambda x: opset1.max_pool(x, [1, 1], [2, 2], [2, 2], [3, 3]),
        lambda x: [np.full((1, 4, 2, 7), np.finfo(np.float32).min)],
    ),
    "SpaceToBatch": Case(
        (Given((2, 4, 4, 3), 1),),
        lambda x: op.space_to_batch(x, whole([1, 2, 2, 1]), whole([0, 2, 0, 0]), whole([0, 2, 0, 0])),
        zeros(8, 2, 2, 3),
        partly=False,
    ),
    # No steps.
    "LSTMSequence": Case((STEPS, STATE, STATE), _lstm, lambda x, h, c: [h, c]),
    "GRUSequence": Case((STEPS, STATE), _gru, second_input),
    "RNNSequence": Case((STEPS, STATE), _rnn, second_input),
    "Loop": Case(
        (Given((4, 3)), Given((1, 3)), Given((3,), 0, np.int64)), _loop, lambda x, state, n: [state, np.zeros((0, 3))]
    ),
    "Gather in a Loop": Case(
        (ROWS, Given((1, 3)), INDICES), _loop, lambda x, state, n: [state, np.concatenate([state, state])]
    ),
    "Gather in an If": Case((ROWS, Given((2, 3))), _either, second_input),
    "StringTensorPack": Case(
        (
            Given((2,), dtype=np.int32, below=1),
            Given((2,), dtype=np.int32, below=5),
            Given((4,), 0, np.uint8),
        ),
        _string_lengths,
        lambda *_: [[0, 0], [0, 0]],
    ),
}
"""Those that need a guard."""

RIGHT: dict[str, Case] = {
    "Reduce": Case((ROWS,), _reduced, lambda x: [*np.reshape([1, 1, 3, 1, 1], (5, 1, 1)) * np.ones((1, 3)), *_LEAST]),
    "Reduce of i64": Case(
        (I64_ROWS,),
        lambda x: [op.reduce_sum(x, whole([0]), False), op.reduce_prod(x, whole([0]), False)],
        lambda x: [np.zeros(3), np.ones(3)],
    ),
    "ReduceLogical": Case((I64_ROWS,), _logical, lambda x: [np.full(3, False), np.full(3, True)]),
    "Softmax": Case((ROWS,), lambda x: op.reduce_sum(op.softmax(x, 0), whole([0]), True), zeros(1, 3)),
    "CumSum": Case((ROWS,), lambda x: op.reduce_sum(op.cum_sum(x, whole(0)), whole([0]), False), zeros(3)),
    "OneHot": Case(
        (Given((4,), 0, np.int64),),
        lambda i: op.reduce_sum(op.one_hot(i, whole(3), real(1), real(0), -1), whole([0]), False),
        zeros(3),
    ),
    "Concat": Case((ROWS, Given((2, 3))), lambda x, y: op.relu(op.concat([x, y], 0)), second_input),
    "Concat of inner ones": Case(
        (Given((2, 3)), Given((2, 4), 1)), lambda x, y: op.concat([op.relu(x), y], 1), first_input
    ),
    "Pad": Case(
        (ROWS,), lambda x: op.pad(x, whole([1, 1]), whole([1, 1]), "constant", real(7)), lambda x: [np.full((2, 5), 7)]
    ),
    "ScatterUpdate": Case(
        (Given((4, 3)), Given((2,), 0, np.int64), Given((2, 3), 0)),
        lambda x, i, updates: op.scatter_update(x, i, updates, whole(0)),
        first_input,
    ),
    "ScatterNDUpdate": Case(
        (Given((4, 3)), Given((2, 1), 0, np.int64), Given((2, 3), 0)), opset4.scatter_nd_update, first_input
    ),
    "ScatterElementsUpdate": Case(
        (Given((4, 3)), Given((2, 3), 0, np.int64), Given((2, 3), 0)),
        lambda x, i, updates: opset3.scatter_elements_update(x, i, updates, whole(0)),
        first_input,
    ),
    "SliceScatter": Case(
        (Given((4, 3)), Given((2, 3), 0)),
        lambda x, updates: op.slice_scatter(x, updates, whole([0]), _size(updates), whole([1]), whole([0])),
        first_input,
    ),
    "EmbeddingSegmentsSum": Case(
        (Given((4, 3)), Given((5,), 0, np.int64), Given((5,), 0, np.int64, 1)),
        lambda table, i, segments: opset3.embedding_segments_sum(table, i, segments, whole(3)),
        zeros(3, 3),
    ),
    "Bucketize": Case((Given((3, 4)), Given((3,), 0)), op.bucketize, zeros(3, 4)),
    "SearchSorted": Case((Given((3,), 0), Given((4,))), op.search_sorted, zeros(4)),
    "ConvertLike": Case((Given((4, 3)), Given((4,), 0)), op.convert_like, first_input),
    "NonMaxSuppression": Case((Given((1, 6, 4), 1), Given((1, 2, 6), 2)), _boxes, lambda *_: [[0], 0]),
    "NonZero": Case((I64_ROWS,), lambda x: op.shape_of(op.non_zero(x, "i64")), lambda x: [[2, 0]]),
    "Split": Case(
        (ROWS, Given((2, 3))),
        lambda x, y: op.variadic_split(op.concat([x, y], 0), whole(0), op.concat([_size(x), whole([2])], 0)).outputs(),
        lambda x, y: [np.zeros((0, 3)), y],
    ),
    "the output itself": Case((ROWS,), lambda x: op.exp(x), zeros(0, 3)),
}
"""Those that need none."""
