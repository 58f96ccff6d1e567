"""Operations that the runtime lets read or write anywhere: models, ordinary data, and the results of any data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset1, opset2, opset3, opset5, opset6, opset7, opset8, opset9, opset11, opset12, opset15, opset16

from tests.server.engine.example import real, whole

Array = npt.NDArray[Any]
WILD = (-5, -1, 0, 5, 100, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 40, -(1 << 40))
SMALL = (-5, -1, 0, 5, 100, -(1 << 31), -(1 << 40))
"""For sizes: what is not checked here is that memory suffices."""
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, -5.0, 100.0, 3e9)


@dataclass(frozen=True, slots=True)
class Case:
    """`ordinary` is an input's data of which every result is right. Inputs that are not in `wild` are filled with 7.

    `among`: what an output may hold then. `within`: between which numbers, where sums come out. `dynamic`: how many of
    the axes of each input, from the first one on, are; more than there are is all.
    """

    ordinary: tuple[Array, ...]
    wild: Mapping[int, tuple[float, ...]]
    build: Callable[..., Any]
    among: tuple[float, ...] = (0, 7)
    within: tuple[float, float] | None = None
    dynamic: int = 0

    def model(self) -> ov.Model:
        parameters = [
            opset1.parameter(
                [-1 if axis < self.dynamic else size for axis, size in enumerate(each.shape)], each.dtype.type
            )
            for each in self.ordinary
        ]
        return ov.Model([opset1.result(self.build(*parameters))], parameters, "case")


def table(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def i32(values: Any) -> Array:
    return np.array(values, np.int32)


def i64(values: Any) -> Array:
    return np.array(values, np.int64)


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def _compressed(i: ov.Node) -> ov.Node:
    numbers = opset1.convert(opset1.constant(np.full((5, 64), 14, np.uint8)), "f32")
    return opset8.gather(opset1.multiply(numbers, real(np.full((5, 1), 0.5))), i, whole(0))


def _boxes(boxes: ov.Node, scores: ov.Node, counts: ov.Node) -> ov.Output:
    return opset9.multiclass_nms(boxes, scores, counts).output(0)


def _packed(begins: ov.Node, ends: ov.Node, symbols: ov.Node) -> ov.Output:
    return opset15.string_tensor_unpack(opset15.string_tensor_pack(begins, ends, symbols)).output(2)


def _two_largest(x: ov.Node, k: ov.Node) -> ov.Output:
    return opset11.topk(x, k, -1, "max", "value").output(0)


def _sequence(x: ov.Node, lengths: ov.Node) -> ov.Output:
    blank = opset1.constant(np.array([2], np.int32))
    return opset6.ctc_greedy_decoder_seq_len(x, lengths, blank).output(0)


def _in_a_body(x: ov.Node, i: ov.Node) -> ov.Node:
    """An operation in both bodies of an If, which depends on whether the sum of the indices is odd."""
    parameters = [[opset1.parameter([4, 8], np.float32), opset1.parameter([2, 2], np.int32)] for _ in range(2)]
    bodies = [ov.Model([opset1.result(opset8.gather_nd(*each, 0))], each, "body") for each in parameters]
    odd = opset1.equal(opset1.mod(opset1.reduce_sum(i, whole([0, 1])), opset1.constant(np.int32(2))), np.int32(1))
    node = opset8.if_op(odd.output(0))
    node.set_then_body(bodies[0])
    node.set_else_body(bodies[1])
    for given, first, second in zip((x, i), *parameters, strict=True):
        node.set_input(given.output(0), first, second)
    return node.set_output(*(body.get_results()[0] for body in bodies))


INDICES = {1: WILD}
BOXES = f32([[0, 0, 0, 4, 4], [1, 1, 1, 5, 5]])
CASES: dict[str, Case] = {
    "GatherND-5": Case((table(4, 8), i32([[1, 2], [-1, -8]])), INDICES, lambda x, i: opset5.gather_nd(x, i, 0)),
    "GatherND-8": Case((table(4, 8), i64([[1, 2], [-4, 7]])), INDICES, lambda x, i: opset8.gather_nd(x, i, 0)),
    "GatherND-8 of rows": Case((table(4, 8), i32([[1], [-4]])), INDICES, lambda x, i: opset8.gather_nd(x, i, 0)),
    "GatherND-8 in batches": Case(
        (table(2, 4, 8), i64([[1, 2], [-4, -1]])), INDICES, lambda x, i: opset8.gather_nd(x, i, 1)
    ),
    "GatherND-8 of bytes": Case(
        (table(4, 8), np.array([[1, 2], [3, 7]], np.uint8)),
        {1: (0, 5, 100, 255)},
        lambda x, i: opset8.gather_nd(x, i, 0),
    ),
    "GatherND-8 of any number of rows": Case(
        (table(4, 8), i64([[1, 2], [-4, 7]])), INDICES, lambda x, i: opset8.gather_nd(x, i, 0), dynamic=1
    ),
    "GatherND-8 in bodies": Case((table(4, 8), i32([[1, 2], [-1, -8]])), INDICES, _in_a_body),
    "Gather-1": Case((i32([3, 4, 5, 6]), i32([1, 0])), INDICES, lambda x, i: opset1.gather(x, i, whole(0))),
    "Gather-7": Case((i64([3, 4, 5, 6]), i64([1, 3])), INDICES, lambda x, i: opset7.gather(x, i, whole(0))),
    "Gather-8": Case((i32([3, 4, 5, 6]), i64([1, -1])), INDICES, lambda x, i: opset8.gather(x, i, whole(0))),
    "Gather-8 of one": Case((i64([3, 4, 5, 6]), i64(-4)), INDICES, lambda x, i: opset8.gather(x, i, whole(0))),
    "Gather-8 of any length": Case(
        (i64([3, 4, 5, 6]), i64([1, -1])), INDICES, lambda x, i: opset8.gather(x, i, whole(0)), dynamic=1
    ),
    "Gather-8 of compressed rows": Case((i64([1, -5]),), {0: WILD}, _compressed),
    "ScatterElementsUpdate-3": Case(
        (table(4, 8), i32([[1] * 8, [-4] * 8]), table(2, 8)),
        INDICES,
        lambda x, i, u: opset3.scatter_elements_update(x, i, u, whole(0)),
    ),
    "ScatterElementsUpdate-12": Case(
        (table(4, 8), i64([[1] * 4] * 4), table(4, 4)),
        INDICES,
        lambda x, i, u: opset12.scatter_elements_update(x, i, u, whole(-1), "max"),
    ),
    "ScatterElementsUpdate-3 of any size": Case(
        (table(4, 8), i32([[1] * 8, [-4] * 8]), table(2, 8)),
        INDICES,
        lambda x, i, u: opset3.scatter_elements_update(x, i, u, whole(0)),
        dynamic=2,
    ),
    "ScatterUpdate-3": Case(
        (i32([3, 4, 5, 6]), i32([1, 0]), i32([8, 9])), INDICES, lambda x, i, u: opset3.scatter_update(x, i, u, whole(0))
    ),
    "ScatterUpdate-3 of any length": Case(
        (i64([3, 4, 5, 6]), i64([1, 0]), i64([8, 9])),
        INDICES,
        lambda x, i, u: opset3.scatter_update(x, i, u, whole(-1)),
        dynamic=1,
    ),
    "EmbeddingBagOffsetsSum-3": Case(
        (table(5, 4), i32([1, 2, 3]), i32([0, 2])),
        {1: WILD, 2: WILD},
        opset3.embedding_bag_offsets_sum,
        among=(0, 7, 14, 21),
    ),
    "EmbeddingBagOffsets-15": Case(
        (table(5, 4), i64([1, 2, 3]), i64([0, 2])),
        {1: WILD, 2: WILD},
        lambda x, i, o: opset15.embedding_bag_offsets(x, i, o, reduction="mean"),
    ),
    "Range-4": Case(
        (i64(0), i64(9), i64(3)),
        {2: SMALL},
        lambda start, stop, step: opset12.range(start, stop, step, "i64"),
        within=(0, 9),
    ),
    "StridedSlice-1": Case(
        (table(4, 8), i64([2, 2])),
        {1: SMALL},
        lambda x, strides: opset1.strided_slice(x, whole([0, 0]), whole([4, 8]), strides, [0, 0], [0, 0]),
    ),
    "SegmentMax-16": Case(
        (table(4, 8), i64([0, 0, 1, 2])),
        INDICES,
        lambda x, i: opset16.segment_max(x, i, whole(3), "ZERO"),
    ),
    "GatherTree-1": Case(
        (i32([[[1, 2]], [[1, 2]], [[3, 4]]]), i32([[[0, 0]], [[0, 1]], [[1, 0]]]), i32([3])),
        {1: WILD, 2: WILD},
        lambda steps, parents, longest: opset1.gather_tree(
            steps, parents, longest, opset1.constant(np.array(9, np.int32))
        ),
        among=(7, 9),
    ),
    "CTCGreedyDecoderSeqLen-6": Case(
        (np.eye(4, 3, dtype=np.float32)[None].repeat(2, 0), i32([3, 4])), INDICES, _sequence, among=(-1, 0, 1)
    ),
    "ROIAlign-9": Case(
        (table(2, 3, 8, 8), f32([[0, 0, 4, 4], [1, 1, 5, 5]]), i32([0, 1])),
        {1: FLOATS, 2: WILD},
        lambda x, boxes, images: opset9.roi_align(x, boxes, images, 2, 2, 2, 1.0, "avg"),
        among=(0, 7, float("nan")),
    ),
    "ROIAlignRotated-15": Case(
        (table(2, 3, 8, 8), f32([[4, 4, 4, 4, 0.5], [4, 4, 5, 5, 0.5]]), i32([0, 1])),
        {1: FLOATS, 2: WILD},
        lambda x, boxes, images: opset15.roi_align_rotated(x, boxes, images, 2, 2, 2, 1.0, True),
        among=(0, 7, float("nan")),
    ),
    "ROIPooling-2": Case(
        (table(2, 3, 8, 8), f32([[0, 0, 0, 0.5, 0.5], [1, 0.1, 0.1, 0.5, 0.5]])),
        {1: FLOATS},
        lambda x, boxes: opset2.roi_pooling(x, boxes, [2, 2], 1.0, "bilinear"),
    ),
    "DeformablePSROIPooling-1": Case(
        (table(2, 12, 8, 8), BOXES, np.zeros((2, 2, 2, 2), np.float32)),
        {1: FLOATS, 2: FLOATS},
        lambda x, boxes, offsets: opset1.deformable_psroi_pooling(
            x, boxes, 3, 1.0, 2, "bilinear_deformable", 2, 2, 0.1, 2, offsets
        ),
        within=(0, 7.001),
    ),
    "DeformableConvolution-8": Case(
        (table(1, 2, 6, 6), np.zeros((1, 18, 4, 4), np.float32)),
        {1: FLOATS},
        lambda x, offsets: opset8.deformable_convolution(
            x, offsets, real(np.ones((2, 2, 3, 3))), [1, 1], [0, 0], [0, 0], [1, 1]
        ),
        within=(0, 126.001),
    ),
    "MulticlassNms-9": Case(
        (
            np.random.default_rng(1).random((2, 4, 4), np.float32),
            np.random.default_rng(2).random((2, 4), np.float32),
            i32([3, 1]),
        ),
        {2: WILD},
        _boxes,
        among=(0, 1, 7),
    ),
    "OneHot-1": Case(
        (i64(4),),
        {0: SMALL},
        lambda depth: opset1.one_hot(whole([1, 2]), depth, real(7), real(0), -1),
    ),
    "TopK-11": Case((table(4, 8), i64(2)), {1: SMALL}, _two_largest),
    "TopK-11 of any size": Case((table(4, 8), i32(2)), {1: SMALL}, _two_largest, dynamic=2),
    "StringTensorPack-15": Case(
        (i32([0, 2]), i32([2, 4]), np.frombuffer(b"ABCD", np.uint8)), {0: WILD[:8], 1: WILD[:8]}, _packed, among=(7,)
    ),
}
