"""Cells, sequences, variables, and operations with bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset1, opset3, opset4, opset5, opset15

from tests.server.engine.example import Build, Examples, boolean, f32, of, real, weights, whole

HIDDEN = 5
STATE = f32(2, HIDDEN)


def _matrices(gates: int, *directions: int) -> tuple[ov.Node, ov.Node, ov.Node]:
    rows = gates * HIDDEN
    return weights(*directions, rows, 3), weights(*directions, rows, HIDDEN), weights(*directions, rows)


def _sequence(kind: str, gates: int, direction: str) -> Build:
    """Sequences of four steps; the second row has three."""
    count = 2 if direction == "BIDIRECTIONAL" else 1

    def build(x: ov.Node, *states: ov.Node) -> Any:
        sequence = getattr(opset5, kind)
        return sequence(x, *states, whole([4, 3]), *_matrices(gates, count), HIDDEN, direction).output(0)

    return build


def _sequences(kind: str, gates: int, states: int) -> Any:
    return [
        each
        for direction, count in (("FORWARD", 1), ("REVERSE", 1), ("BIDIRECTIONAL", 2))
        for each in of((f32(2, 4, 3), *[f32(2, count, HIDDEN)] * states), _sequence(kind, gates, direction))
    ]


def _remembered(x: ov.Node) -> tuple[ov.Node, list[ov.Node]]:
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([3]), ov.Type.f32, "total"
    variable = ov.op.util.Variable(info)
    total = opset1.add(opset15.read_value(real(np.zeros(3)), variable), x)
    return total, [opset15.assign(total, variable)]


def _chosen(sure: ov.Node, x: ov.Node) -> ov.Node:
    node = opset15.if_op(sure)
    inside = [opset1.parameter([3], np.float32) for _ in range(2)]
    results = [opset1.result(opset1.exp(inside[0])), opset1.result(opset1.negative(inside[1]))]
    bodies = [ov.Model([result], [each], "body") for result, each in zip(results, inside, strict=True)]
    node.set_then_body(bodies[0])
    node.set_else_body(bodies[1])
    node.set_input(x.output(0), *inside)
    return node.set_output(*results)


def looped(trips: ov.Node, x: ov.Node, going: ov.Node | None = None) -> ov.Node:
    """x squared a number of times. `going` replaces the constant condition."""
    node = opset5.loop(trips, going or opset1.constant(np.array(True)))
    inside = opset1.parameter([3], np.float32)
    results = [opset1.result(opset1.constant(np.array(True))), opset1.result(opset1.multiply(inside, inside))]
    node.set_function(ov.Model(results, [inside], "body"))
    node.set_special_body_ports([-1, 0])
    node.set_merged_input(inside, x.output(0), results[1].output(0))
    return node.get_iter_value(results[1].output(0), -1)


def _iterated(x: ov.Node) -> ov.Node:
    """The square root of each row."""
    node = opset1.tensor_iterator() if hasattr(opset1, "tensor_iterator") else opset15.tensor_iterator()
    inside = opset1.parameter([1, 3], np.float32)
    result = opset1.result(opset1.sqrt(inside))
    node.set_body(ov.Model([result], [inside], "body"))
    node.set_sliced_input(inside, x.output(0), 0, 1, 1, -1, 0)
    return node.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0)


EXAMPLES: Examples = {
    "Constant.opset1": of(f32(3), lambda x: opset1.add(x, real([1, 2, 3]))),
    "Parameter.opset1": of(f32(3), lambda x: opset1.add(x, real([1, 2, 3]))),
    "Result.opset1": of(f32(3), lambda x: opset1.add(x, real([1, 2, 3]))),
    "LSTMCell.opset4": of(
        (f32(2, 3), STATE, STATE),
        lambda x, h, c: opset4.lstm_cell(x, h, c, *_matrices(4), HIDDEN).output(0),
    ),
    "GRUCell.opset3": of((f32(2, 3), STATE), lambda x, h: opset3.gru_cell(x, h, *_matrices(3), HIDDEN)),
    "LSTMSequence.opset5": _sequences("lstm_sequence", 4, 2),
    "GRUSequence.opset5": _sequences("gru_sequence", 3, 1),
    "RNNSequence.opset5": _sequences("rnn_sequence", 1, 1),
    "ReadValue.opset6": of(f32(3), _remembered),
    "Assign.opset6": of(f32(3), _remembered),
    "If.opset8": of((boolean(), f32(3)), _chosen),
    "Loop.opset5": of(f32(3), lambda x: looped(whole(3), x)),
    "TensorIterator.opset1": of(f32(4, 3), _iterated),
}
