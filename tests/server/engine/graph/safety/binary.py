"""Operations that compute each output element from one element of each input."""

from __future__ import annotations

import numpy as np
from openvino import opset1, opset13, opset15

from tests.server.engine.example import NUMERIC, Build, Example, Examples, Input, boolean, f32, of

SHAPE = (3, 21)
PAIRS = {
    "Add.opset1": opset1.add,
    "Equal.opset1": opset1.equal,
    "Greater.opset1": opset1.greater,
    "GreaterEqual.opset1": opset1.greater_equal,
    "Less.opset1": opset1.less,
    "LessEqual.opset1": opset1.less_equal,
    "Maximum.opset1": opset1.maximum,
    "Minimum.opset1": opset1.minimum,
    "Multiply.opset1": opset1.multiply,
    "NotEqual.opset1": opset1.not_equal,
    "Power.opset1": opset1.power,
    "SquaredDifference.opset1": opset1.squared_difference,
    "Subtract.opset1": opset1.subtract,
}
DIVISIONS = {
    "Divide.opset1": opset1.divide,
    "FloorMod.opset1": opset1.floor_mod,
    "Mod.opset1": opset1.mod,
}
BITS = {
    "BitwiseAnd.opset13": opset13.bitwise_and,
    "BitwiseLeftShift.opset15": opset15.bitwise_left_shift,
    "BitwiseOr.opset13": opset13.bitwise_or,
    "BitwiseRightShift.opset15": opset15.bitwise_right_shift,
    "BitwiseXor.opset13": opset13.bitwise_xor,
}
LOGIC = {
    "LogicalAnd.opset1": opset1.logical_and,
    "LogicalOr.opset1": opset1.logical_or,
    "LogicalXor.opset2": opset1.logical_xor,
}


def _typed(type_name: str, count: int) -> tuple[Input, ...]:
    """`count` inputs, of which the last is broadcast."""
    shapes = [SHAPE] * (count - 1) + [SHAPE[1:]]
    return tuple(Input(type_name, shape) for shape in shapes)


def _divided(build: Build, type_name: str) -> Example:
    """Divisions: of integers by constants only, of floats by anything."""
    if type_name == "f32":
        return Example(_typed(type_name, 2), (build,))
    number = np.int32 if type_name == "i32" else np.int64
    divisors = np.resize(np.array([3, -1, -7], number), SHAPE)
    return Example((Input(type_name, SHAPE),), (lambda x: build(x, opset1.constant(divisors)),))


EXAMPLES: Examples = {
    **{key: [each for name in NUMERIC for each in of(_typed(name, 2), build)] for key, build in PAIRS.items()},
    **{key: [_divided(build, name) for name in NUMERIC] for key, build in DIVISIONS.items()},
    **{key: [each for name in ("i32", "u8") for each in of(_typed(name, 2), build)] for key, build in BITS.items()},
    **{key: of(_typed("boolean", 2), build) for key, build in LOGIC.items()},
    "PRelu.opset1": of((f32(*SHAPE), f32(SHAPE[1])), opset1.prelu),
    "Select.opset1": [each for name in NUMERIC for each in of((boolean(*SHAPE), *_typed(name, 2)), opset1.select)],
}
