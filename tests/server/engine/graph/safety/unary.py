"""Operations that compute each output element from one element of their only input."""

from __future__ import annotations

from openvino import opset1, opset2, opset4, opset5, opset7, opset9, opset10, opset13, opset16

from tests.server.engine.example import NUMERIC, TYPES, Example, Examples, Input, boolean, f32, of, real

SHAPE = (3, 21)
FLOATS = {
    "Acos.opset1": opset1.acos,
    "Acosh.opset4": opset4.acosh,
    "Asin.opset1": opset1.asin,
    "Asinh.opset4": opset4.asinh,
    "Atan.opset1": opset1.atan,
    "Atanh.opset4": opset4.atanh,
    "Cos.opset1": opset1.cos,
    "Cosh.opset1": opset1.cosh,
    "Elu.opset1": lambda x: opset1.elu(x, 1.5),
    "Exp.opset1": opset1.exp,
    "HSigmoid.opset5": opset5.hsigmoid,
    "HSwish.opset4": opset4.hswish,
    "HardSigmoid.opset1": lambda x: opset1.hard_sigmoid(x, real(0.2), real(0.5)),
    "IsFinite.opset10": opset10.is_finite,
    "IsInf.opset10": opset10.is_inf,
    "IsNaN.opset10": opset10.is_nan,
    "Log.opset1": opset1.log,
    "Mish.opset4": opset4.mish,
    "Round.opset5": opset5.round,
    "Selu.opset1": lambda x: opset1.selu(x, real(1.67), real(1.05)),
    "Sigmoid.opset1": opset1.sigmoid,
    "Sin.opset1": opset1.sin,
    "Sinh.opset1": opset1.sinh,
    "SoftPlus.opset4": opset4.softplus,
    "SoftSign.opset9": opset9.softsign,
    "Sqrt.opset1": opset1.sqrt,
    "Tan.opset1": opset1.tan,
    "Tanh.opset1": opset1.tanh,
}
NUMBERS = {
    "Abs.opset1": opset1.abs,
    "Ceiling.opset1": opset1.ceiling,
    "Clamp.opset1": lambda x: opset1.clamp(x, -1, 5),
    "Erf.opset1": opset1.erf,
    "Floor.opset1": opset1.floor,
    "Identity.opset16": opset16.identity,
    "Negative.opset1": opset1.negative,
    "Relu.opset1": opset1.relu,
    "Sign.opset1": opset1.sign,
}


def _converted(type_name: str) -> list[Example]:
    """From a type to every type."""
    return of(Input(type_name, SHAPE), *(lambda x, to=to: opset1.convert(x, to) for to in TYPES))


EXAMPLES: Examples = {
    **{key: of(f32(*SHAPE), build) for key, build in FLOATS.items()},
    **{key: [each for name in NUMERIC for each in of(Input(name, SHAPE), build)] for key, build in NUMBERS.items()},
    "BitwiseNot.opset13": [each for name in ("i32", "u8") for each in of(Input(name, SHAPE), opset13.bitwise_not)],
    "LogicalNot.opset1": of(boolean(*SHAPE), opset1.logical_not),
    "Convert.opset1": [each for type_name in TYPES for each in _converted(type_name)],
    "ConvertLike.opset1": of((f32(*SHAPE), Input("i32", (1,))), opset1.convert_like),
    "Gelu.opset2": of(f32(*SHAPE), opset2.gelu),
    "Gelu.opset7": of(f32(*SHAPE), lambda x: opset7.gelu(x, "erf"), lambda x: opset7.gelu(x, "tanh")),
    "Swish.opset4": of(f32(*SHAPE), opset4.swish) + of((f32(*SHAPE), f32()), opset4.swish),
    "FakeQuantize.opset1": of(
        f32(*SHAPE), lambda x: opset1.fake_quantize(x, real(-1), real(2), real(-1), real(2), 256)
    ),
}
