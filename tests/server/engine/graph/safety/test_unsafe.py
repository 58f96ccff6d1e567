"""The reason for refusing names the operation that may fail, in the model or in a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset1, opset3, opset4, opset5, opset6, opset8, opset9, opset12, opset15

from headrace.server.engine.graph.safety import why_unsafe
from tests.server.engine.example import Example, Input, boolean, f32, i32, i64, real, weights, whole
from tests.server.engine.graph.safety.recurrent import looped

Build = Callable[..., Any]
ROWS = (f32(4, 6), i64(2), f32(2, 6))
ALL_ROWS = (f32(4, 6), i64(2, 6), f32(2, 6))


def lstm(x: ov.Node, lengths: ov.Node, direction: str) -> ov.Output:
    state = real(np.zeros((2, 1, 5)))
    matrices = weights(1, 20, 3), weights(1, 20, 5), weights(1, 20)
    return opset5.lstm_sequence(x, state, state, lengths, *matrices, 5, direction).output(0)


DANGEROUS: dict[str, tuple[tuple[Input, ...], Build, str]] = {
    "ScatterNDUpdate": (
        (f32(4, 6), i64(2, 1), f32(2, 6)),
        opset4.scatter_nd_update,
        "may fail because of its indices",
    ),
    "ScatterUpdate": (
        ROWS,
        lambda x, i, u: opset3.scatter_update(x, i, u, whole(0)),
        "may fail because of its indices",
    ),
    "ScatterElementsUpdate": (
        ALL_ROWS,
        lambda x, i, u: opset3.scatter_elements_update(x, i, u, whole(0)),
        "may fail because of its indices",
    ),
    "ReverseSequence": (
        (f32(4, 6), i64(4)),
        lambda x, lengths: opset1.reverse_sequence(x, lengths, 0, 1),
        "may fail because of its lengths",
    ),
    "CumSum": ((f32(4, 6), i64()), opset3.cum_sum, "may fail because of its axis"),
    "LSTMSequence": (
        (f32(2, 4, 3), i64(2)),
        lambda x, lengths: lstm(x, lengths, "REVERSE"),
        "may fail because of its lengths",
    ),
    "ROIAlign": (
        (f32(2, 3, 8, 8), f32(2, 4), i64(2)),
        lambda x, boxes, images: opset9.roi_align(x, boxes, images, 2, 2, 2, 1.0, "avg"),
        "is not on the list of operations that never fail",
    ),
    "GatherTree": (
        (i32(3, 1, 2), i32(3, 1, 2), i32(1), i32()),
        opset1.gather_tree,
        "is not on the list of operations that never fail",
    ),
    "EmbeddingBagOffsetsSum": (
        (f32(5, 4), i64(3), i64(2)),
        opset3.embedding_bag_offsets_sum,
        "is not on the list of operations that never fail",
    ),
    "EmbeddingBagOffsets": (
        (f32(5, 4), i64(3), i64(2)),
        opset15.embedding_bag_offsets,
        "is not on the list of operations that never fail",
    ),
    "EmbeddingBagPackedSum": (
        (f32(5, 4), i64(2, 2)),
        opset3.embedding_bag_packed_sum,
        "is not on the list of operations that never fail",
    ),
    "EmbeddingSegmentsSum": (
        (f32(5, 4), i64(3), i64(3)),
        lambda x, i, segments: opset3.embedding_segments_sum(x, i, segments, whole(2)),
        "is not on the list of operations that never fail",
    ),
    "GatherElements": ((f32(4, 6), i64(2, 6)), opset6.gather_elements, "may fail because of its indices"),
    "GatherND": ((f32(4, 6), i64(2, 2)), opset8.gather_nd, "may fail because of its indices"),
    "OneHot": (
        (i64(3), i64()),
        lambda i, depth: opset1.one_hot(i, depth, real(1), real(0), -1),
        "may fail because of its depth",
    ),
    "Range": (
        (i64(), i64()),
        lambda start, stop: opset12.range(start, stop, whole(1), "i64"),
        "may fail because of its start",
    ),
    "Pad": (
        (f32(4, 6), f32()),
        lambda x, value: opset12.pad(x, whole([1, 1]), whole([1, 1]), "constant", value),
        "may fail because of its value",
    ),
    "Tile": ((f32(4, 6), i64(2)), opset1.tile, "may fail because of its repeats"),
    "Reshape": ((f32(4, 6), i64(2)), lambda x, to: opset1.reshape(x, to, False), "may fail because of its pattern"),
    "NonZero": ((f32(4, 6),), opset3.non_zero, "is not on the list of operations that never fail"),
    "NonMaxSuppression": (
        (f32(1, 4, 4), f32(1, 2, 4)),
        lambda boxes, scores: opset9.non_max_suppression(boxes, scores, whole(2)).output(0),
        "is not on the list of operations that never fail",
    ),
    "Divide": ((i32(4), i32(4)), opset1.divide, "may fail because of its divisor"),
    "FloorMod": ((i64(4), i64(4)), opset1.floor_mod, "may fail because of its divisor"),
    "Mod": (
        (i64(4),),
        lambda x: opset1.mod(x, opset1.constant(np.array([1, 2, 0, 3]))),
        "may fail because of its divisor",
    ),
    "RandomUniform": (
        (f32(2),),
        lambda x: opset1.add(x, opset8.random_uniform(whole([2]), real(0), real(1), "f32")),
        "is not on the list of operations that never fail",
    ),
    "Constant": (
        (f32(2, 4),),
        lambda x: opset1.multiply(x, opset1.convert(ov.op.Constant(ov.Type.u4, ov.Shape([4]), [1, 2, 3, 4]), "f32")),
        "may fail because of its elements of type u4",
    ),
}


@pytest.mark.parametrize("type_name", DANGEROUS)
def test_it_is_named(type_name: str) -> None:
    inputs, build, reason = DANGEROUS[type_name]
    model = Example(inputs, (build,)).model()
    assert why_unsafe(model) == f"{type_name} '{name(model, type_name)}' {reason}"


@pytest.mark.parametrize("type_name", DANGEROUS)
@pytest.mark.parametrize("holder", ["If", "Loop", "TensorIterator"])
def test_it_is_named_in_a_body(type_name: str, holder: str) -> None:
    inputs, build, reason = DANGEROUS[type_name]
    body = Example(inputs, (build,)).model()
    expected = f"{type_name} '{name(body, type_name)}' {reason}"
    model = HOLDERS[holder](body, inputs)
    assert holder in {node.get_type_name() for node in model.get_ops()}
    assert why_unsafe(model) == expected


def name(model: ov.Model, type_name: str) -> str:
    (node,) = [node for node in model.get_ops() if node.get_type_name() == type_name]
    return str(node.get_friendly_name())


def parameters(inputs: tuple[Input, ...]) -> list[ov.op.Parameter]:
    return [opset1.parameter(list(each.shape), getattr(ov.Type, each.type_name)) for each in inputs]


def in_if(body: ov.Model, inputs: tuple[Input, ...]) -> ov.Model:
    """An If with the operation in the second of its two bodies."""
    sure, outside, inside = opset1.parameter([], np.bool_), parameters(inputs), parameters(inputs)
    given = body.outputs[0]
    number = opset1.constant(np.array(0), given.get_element_type())
    other = opset3.broadcast(number, whole([1] * given.get_partial_shape().rank.get_length()))
    first = ov.Model([opset1.result(other)], inside, "then")
    node = opset8.if_op(sure)
    node.set_then_body(first)
    node.set_else_body(body)
    for each, then, otherwise in zip(outside, inside, body.get_parameters(), strict=True):
        node.set_input(each.output(0), then, otherwise)
    chosen = node.set_output(first.get_results()[0], body.get_results()[0])
    return ov.Model([opset1.result(chosen)], [sure, *outside], "model")


def in_loop(body: ov.Model, inputs: tuple[Input, ...]) -> ov.Model:
    outside = parameters(inputs)
    sure = opset1.result(opset1.constant(np.array(True)))
    body.add_results([sure])
    node = opset5.loop(whole(2), opset1.constant(np.array(True)))
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    for each, inner in zip(outside, body.get_parameters(), strict=True):
        node.set_invariant_input(inner, each.output(0))
    return ov.Model([opset1.result(node.get_iter_value(body.get_results()[0].output(0), -1))], outside, "model")


def in_iterator(body: ov.Model, inputs: tuple[Input, ...]) -> ov.Model:
    outside, steps, step = parameters(inputs), *parameters((f32(2, 3), f32(1, 3)))
    body.add_parameters([step])
    body.add_results([opset1.result(opset1.exp(step))])
    node = opset15.tensor_iterator()
    node.set_body(body)
    for each, inner in zip(outside, body.get_parameters(), strict=False):
        node.set_invariant_input(inner, each.output(0))
    node.set_sliced_input(step, steps.output(0), 0, 1, 1, -1, 0)
    return ov.Model(
        [opset1.result(node.get_iter_value(body.get_results()[0].output(0), -1))], [*outside, steps], "model"
    )


HOLDERS = {"If": in_if, "Loop": in_loop, "TensorIterator": in_iterator}


def test_a_loop_that_data_ends() -> None:
    trips = Example((i64(), f32(3)), (looped,)).model()
    assert why_unsafe(trips) == f"Loop '{name(trips, 'Loop')}' may fail because of its number of iterations"
    going = Example((f32(3), boolean()), (lambda x, sure: looped(whole(3), x, sure),)).model()
    assert why_unsafe(going) == f"Loop '{name(going, 'Loop')}' may fail because of its number of iterations"


def test_values_that_follow_from_shapes_are_safe_where_data_are_not() -> None:
    def shaped(x: ov.Node, y: ov.Node) -> ov.Node:
        return opset1.reshape(x, opset3.shape_of(y), False)

    assert why_unsafe(Example((f32(4, 6), f32(3, 8)), (shaped,)).model()) is None


def test_the_first_operation_is_named() -> None:
    def twice(x: ov.Node, to: ov.Node) -> ov.Node:
        first = opset1.reshape(x, to, False)
        first.set_friendly_name("first")
        return opset1.reshape(first, to, False)

    model = Example((f32(4, 6), i64(2)), (twice,)).model()
    assert why_unsafe(model) == "Reshape 'first' may fail because of its pattern"
