"""Small models, written to files: each function saves one in a folder and says where.

Most are IR, built from OpenVINO's operations. Only this module and the tests of the engine import
openvino.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from openvino import opset15 as op

from headrace.wire.varints import varint
from tests.packaged_models import RESNET, packaged
from tests.saving import result, write

Shape = list[int | ov.Dimension]
Inputs = list[ov.op.Parameter]


def add_multiply(folder: Path) -> Path:
    """x, y: f32[?,16] -> sum, product: f32[?,16]."""
    return _add_multiply(folder, "add_multiply", [-1, 16])


def static_add_multiply(folder: Path) -> Path:
    """x, y: f32[1,16] -> sum, product: f32[1,16]."""
    return _add_multiply(folder, "static_add_multiply", [1, 16])


def bounded_add_multiply(folder: Path) -> Path:
    """x, y: f32[2..8,16] -> sum, product: f32[2..8,16]."""
    return _add_multiply(folder, "bounded_add_multiply", [ov.Dimension(2, 8), 16])


def identity(folder: Path, type_name: str = "f32") -> Path:
    """x: any[?] -> same: any[?,1], the same bits. `type_name` is OpenVINO's: boolean, bf16..."""
    x = _input("x", [-1], type_name)
    return _save(folder, f"identity_{type_name}", [x], {"same": op.unsqueeze(x, np.array([1]))})


def passed_through(folder: Path) -> Path:
    """x: i64[?] -> x itself, no operation between; and 2x in two outputs that are called twice."""
    x = _input("x", [-1], "i64")
    twice = op.multiply(x, np.int64(2))
    results = [op.result(x), result("twice", twice), result("twice", twice)]
    return write(folder, "passed_through", ov.Model(results, [x], "passed_through"))


def image(folder: Path, shape: Shape | None = None, type_name: str = "f32") -> Path:
    """x: f32[1,3,8,10] -> same: f32[1,3,8,10], the same numbers. Other shapes and types if given."""
    x = _input("x", [1, 3, 8, 10] if shape is None else shape, type_name)
    return _save(folder, "image", [x], {"same": op.concat([x], 0)})


def resnet(folder: Path) -> Path:
    """ResNet-50, gpu_0/data_0: f32[1,3,224,224] -> gpu_0/softmax_1: f32[1,1000], of random weights.

    The packaged one has the same weight everywhere, and so the same result for every picture. Of this one, what all
    pictures have in common is taken off.
    """
    model = onnx.load(packaged(*RESNET))
    random = np.random.default_rng(50)
    shapes = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "ConstantOfShape"]:
        model.graph.node.remove(node)
        name, shape = node.output[0], shapes[node.input[0]]
        ones = name.endswith(("_bn_s_0", "_bn_riv_0"))
        weights = np.full(shape, ones, np.float32)
        if len(shape) > 1:
            weights = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
            weights *= 0.5 if name == "gpu_0/pred_w_0" else 1
        elif name.endswith("branch2c_bn_s_0"):
            weights *= 0.3
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    path = folder / "resnet.onnx"
    onnx.save(model, path)
    noise = random.normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
    common = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(noise)[0][0]
    for each in model.graph.initializer:
        if each.name == "gpu_0/pred_w_0":
            each.CopyFrom(numpy_helper.from_array(4 * numpy_helper.to_array(each), each.name))
        elif each.name == "gpu_0/pred_b_0":
            each.CopyFrom(numpy_helper.from_array(-4 * np.log(common), each.name))
    onnx.save(model, path)
    return path


def scores(folder: Path, shape: Shape | None = None) -> Path:
    """x: f32[?,10] -> scores: f32[?,10], 2x; relu: f32[?,10]. Another shape if given."""
    x = _input("x", [-1, 10] if shape is None else shape)
    twice = op.multiply(x, np.float32(2))
    return _save(folder, "scores", [x], {"scores": twice, "relu": op.relu(twice)})


def plus(folder: Path, number: float) -> Path:
    """x: f32[?] -> y: f32[?], x + number, as `model.xml`: for versions that can be told apart."""
    x = _input("x", [-1])
    return _save(folder, "model", [x], {"y": op.add(x, np.float32(number))})


def saved_model(folder: Path) -> Path:
    """x: f32[?,4] -> y: f32[?,4], x + 1, as a SavedModel of TensorFlow, which is not needed to write it."""
    shape, scalar = _field(7, _field(2, _number(1, -1)) + _field(2, _number(1, 4))), _field(2, b"")
    one = _field(8, _number(1, 1) + scalar + _field(5, np.float32(1).tobytes()))
    float_type = _number(6, 1)
    nodes = [
        _node("x", "Placeholder", (), {"dtype": float_type, "shape": shape}),
        _node("one", "Const", (), {"dtype": float_type, "value": one}),
        _node("y", "AddV2", ("x", "one"), {"T": float_type}),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(4, _number(1, 1882))
    signature = b"".join(
        _field(number, _field(1, name.encode()) + _field(2, _field(1, f"{name}:0".encode()) + _number(2, 1)))
        for number, name in ((1, "x"), (2, "y"))
    )
    signatures = _field(1, b"serving_default") + _field(2, signature)
    meta_graph = _field(1, _field(4, b"serve")) + _field(2, graph) + _field(5, signatures)
    (folder / "saved_model.pb").write_bytes(_number(1, 1) + _field(2, meta_graph))
    return folder


def _node(name: str, operation: str, inputs: tuple[str, ...], attributes: dict[str, bytes]) -> bytes:
    """A NodeDef."""
    parts = [_field(1, name.encode()), _field(2, operation.encode()), *(_field(3, each.encode()) for each in inputs)]
    return b"".join(parts + [_field(5, _field(1, key.encode()) + _field(2, each)) for key, each in attributes.items()])


def _field(number: int, data: bytes) -> bytes:
    """A field of protobuf with bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    """A field of protobuf with an integer."""
    return varint(number << 3) + varint(value % (1 << 64))


def scalar(folder: Path) -> Path:
    """x: f32[] -> next: f32[], x + 1."""
    x = _input("x", [])
    return _save(folder, "scalar", [x], {"next": op.add(x, np.float32(1))})


def scale(folder: Path) -> Path:
    """x: f32[?] -> y: f32[?], 2x + 1: for chains."""
    return _scale(folder, "scale", [-1])


def large_scale(folder: Path) -> Path:
    """x: f32[1048576] -> y: f32[1048576], 2x + 1: for chains of 4 MiB."""
    return _scale(folder, "large_scale", [1 << 20])


def halving(folder: Path) -> Path:
    """x: f32[16,4096] -> y: f32[16,4096], x as the sum of its halves, 16 times: slow with denormal numbers."""
    x = _input("x", [16, 4096])
    y: ov.Node = x
    for _ in range(16):
        y = op.add(op.multiply(y, np.float32(0.5)), op.multiply(y, np.float32(0.5)))
    return _save(folder, "halving", [x], {"y": y})


def counter(folder: Path) -> Path:
    """x: f32[1] -> count: f32[1], the sum of every x since the variable was reset."""
    x = _input("x", [1])
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([1]), ov.Type.f32, "total"
    variable = ov.op.util.Variable(info)
    total = op.add(op.read_value(op.constant(np.zeros(1, np.float32)), variable), x)
    model = ov.Model([result("count", total)], [op.assign(total, variable)], [x], "counter")
    return write(folder, "counter", model)


def failing(folder: Path) -> Path:
    """x: f32[?] -> y: f32[2,8]. A run with other than 16 elements fails."""
    x = _input("x", [-1])
    return _save(folder, "failing", [x], {"y": op.reshape(x, np.array([2, 8]), special_zero=False)})


def reshaping(folder: Path) -> Path:
    """x: f32[16], shape: i64[2] -> y: f32[?,?]. A run whose shape has other than 16 elements fails."""
    x, shape = _input("x", [16]), _input("shape", [2], "i64")
    return _save(folder, "reshaping", [x, shape], {"y": op.reshape(x, shape, special_zero=False)})


def late_failing(folder: Path, steps: int = 24) -> Path:
    """x: f32[1], shape: i64[2] -> y: f32[?,?], 16 times x, after `steps` products as in `slow`.

    A run whose shape has other than 16 elements fails after them.
    """
    x, shape = _input("x", [1]), _input("shape", [2], "i64")
    sixteen = op.broadcast(_products(x, steps), np.array([16]))
    return _save(folder, "late_failing", [x, shape], {"y": op.reshape(sixteen, shape, special_zero=False)})


def scattering(folder: Path) -> Path:
    """x: f32[4,2], i: i64[2,1], u: f32[2,2] -> y: f32[4,2], x with its rows i replaced by u.

    All shapes are static. A run with a row of 4 or more fails.
    """
    inputs = [_input("x", [4, 2]), _input("i", [2, 1], "i64"), _input("u", [2, 2])]
    return _save(folder, "scattering", inputs, {"y": op.scatter_nd_update(*inputs)})


def choosing(folder: Path) -> Path:
    """x: f32[16], shape: i64[2], sure: bool[] -> y: f32[], the sum of x.

    A run that is not sure, and whose shape has other than 16 elements, fails.
    """
    inputs = [_input("x", [16]), _input("shape", [2], "i64"), _input("sure", [], "boolean")]
    sure, unsure = ([_input("x", [16]), _input("shape", [2], "i64")] for _ in range(2))
    then = ov.Model([op.result(op.reduce_sum(sure[0], np.array([0])))], sure, "then")
    reshaped = op.reshape(unsure[0], unsure[1], special_zero=False)
    otherwise = ov.Model([op.result(op.reduce_sum(reshaped, np.array([0, 1])))], unsure, "otherwise")
    choice = op.if_op(inputs[2])
    choice.set_then_body(then)
    choice.set_else_body(otherwise)
    for given, first, second in zip(inputs[:2], sure, unsure, strict=True):
        choice.set_input(given.output(0), first, second)
    return _save(
        folder, "choosing", inputs, {"y": choice.set_output(then.get_results()[0], otherwise.get_results()[0])}
    )


def wide(folder: Path) -> Path:
    """x: f32[1,16] -> small: f32[1,16], 2x; large: f32[1024,1024], row i is the sum of x plus i."""
    x = _input("x", [1, 16])
    total = op.reduce_sum(x, np.array([0, 1]), keep_dims=True)
    rows = op.add(op.constant(np.arange(1024, dtype=np.float32).reshape(1024, 1)), total)
    large = op.broadcast(rows, np.array([1024, 1024]))
    return _save(folder, "wide", [x], {"small": op.multiply(x, np.float32(2)), "large": large})


def two_heads(folder: Path, rows: int = -1, width: int = 512) -> Path:
    """x, y: f32[rows,16] -> light: f32[rows,16], of x alone; heavy: f32[rows,16], of both, by `width`^2 weights."""
    x, y = _input("x", [rows, 16]), _input("y", [rows, 16])
    random = np.random.default_rng(5)
    into, through, out = (
        (random.standard_normal(shape, np.float32) / np.float32(16))
        for shape in ((16, width), (width, width), (width, 16))
    )
    light = op.tanh(op.multiply(x, np.float32(0.5)))
    heavy: ov.Node = op.add(light, y)
    for weights in (into, through, out):
        heavy = op.relu(op.matmul(heavy, weights, False, False))
    return _save(folder, "two_heads", [x, y], {"light": light, "heavy": heavy})


def half_failing(folder: Path) -> Path:
    """x: f32[?] -> twice: f32[?], 2x; table: f32[2,8], x, for which a run with other than 16 elements fails."""
    x = _input("x", [-1])
    table = op.reshape(x, np.array([2, 8]), special_zero=False)
    return _save(folder, "half_failing", [x], {"twice": op.multiply(x, np.float32(2)), "table": table})


def ranging(folder: Path) -> Path:
    """n: i64[] -> y: f32[?], twice 0 to n: the data decide how large the output is."""
    n = _input("n", [], "i64")
    numbers = op.range(op.constant(np.int64(0)), n, op.constant(np.int64(1)), "f32")
    y = op.multiply(numbers, op.constant(np.float32(2)))
    return _save(folder, "ranging", [n], {"y": y})


def narrow(folder: Path) -> Path:
    """large: f32[1024,1024] -> means: f32[1024], the mean of each row."""
    large = _input("large", [1024, 1024])
    return _save(folder, "narrow", [large], {"means": op.reduce_mean(large, np.array([1]))})


def slow(folder: Path, steps: int = 24) -> Path:
    """x: f32[1] -> y: f32[1], x itself after `steps` products of 1024x1024 matrices.

    A cancel is seen between the products. One takes about 12 ms on two cores in f32, 2 ms in bf16.
    """
    x = _input("x", [1])
    return _save(folder, "slow", [x], {"y": _products(x, steps)})


def stubborn(folder: Path) -> Path:
    """x: f32[1] -> y: f32[1,1]: one product of matrices that takes seconds, during which no cancel is seen."""
    x = _input("x", [1])
    matrix = op.multiply(op.constant(np.eye(5120, dtype=np.float32)), x)
    product = op.matmul(matrix, matrix, False, False)
    return _save(folder, "stubborn", [x], {"y": op.reduce_sum(product, np.array([0, 1]), keep_dims=True)})


def repeated(folder: Path) -> Path:
    """x: f32[?], times: i64[1] -> y: f32[?,?], x repeated: a shape that depends on data."""
    x, times = _input("x", [-1]), _input("times", [1], "i64")
    y = op.tile(op.unsqueeze(x, np.array([0])), op.concat([times, np.array([1])], 0))
    return _save(folder, "repeated", [x, times], {"y": y})


def many_names(folder: Path) -> Path:
    """An input named b, a and c; an output named z and y: y = 2x + 1."""
    x = _input("x", [-1])
    x.output(0).set_names({"b", "a", "c"})
    named = result("y", _scaled(x))
    named.output(0).add_names({"z"})
    return write(folder, "many_names", ov.Model([named], [x], "many_names"))


def nameless(folder: Path) -> Path:
    """Two inputs f32[?] -> their sum f32[?]. Only the second input has a name: input_0."""
    x, y = _input("x", [-1]), _input("input_0", [-1])
    path = _save(folder, "nameless", [x, y], {"sum": op.add(x, y)})
    # The runtime names what has no name when it saves, so the names go from the file.
    path.write_text(re.sub(r' (output_)?names="(x|sum)"', "", path.read_text()))
    return path


def bracketed(folder: Path) -> Path:
    """[/x]: f32[?] -> [bold]y = 2[/x] + 1: names that look like markup of a terminal."""
    x = _input("[/x]", [-1])
    return _save(folder, "bracketed", [x], {"[bold]y": _scaled(x)})


def unique(folder: Path) -> Path:
    """x: f32[?] -> y: f32[?], each value once: a shape that depends on data."""
    x = _input("x", [-1])
    return _save(folder, "unique", [x], {"y": op.multiply(op.unique(x).output(0), np.float32(1))})


def strings(folder: Path) -> Path:
    """x: string[?] -> same: string[?], by operations; ends: i32[?], where each ends in the bytes of all."""
    x = _input("x", [-1], "string")
    parts = op.string_tensor_unpack(x)
    packed = op.string_tensor_pack(parts.output(0), parts.output(1), parts.output(2))
    return _save(folder, "strings", [x], {"same": packed, "ends": op.convert(parts.output(1), "i32")})


def of_type(folder: Path, type_name: str) -> Path:
    """in: any[4] -> out: any[4], of a datatype that may be one that cannot be served."""
    x = _input("in", [4], type_name)
    return _save(folder, f"of_{type_name}", [x], {"out": op.concat([x, x], 0)})


def onnx_add(folder: Path) -> Path:
    """ONNX; x: f32[N,3] -> y: f32[N,3], x + 1."""
    shape: list[str | int | None] = ["N", 3]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        "add",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    path = folder / "onnx_add.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _add_multiply(folder: Path, name: str, shape: Shape) -> Path:
    x, y = _input("x", shape), _input("y", shape)
    return _save(folder, name, [x, y], {"sum": op.add(x, y), "product": op.multiply(x, y)})


def _products(x: ov.Node, steps: int) -> ov.Node:
    unit = op.constant(np.eye(1024, dtype=np.float32))
    matrix = op.multiply(unit, x)
    for _ in range(steps):
        matrix = op.matmul(matrix, unit, False, False)
    column = op.reduce_sum(matrix, np.array([0]))
    return op.reduce_mean(column, np.array([0]), keep_dims=True)


def _scale(folder: Path, name: str, shape: Shape) -> Path:
    x = _input("x", shape)
    return _save(folder, name, [x], {"y": _scaled(x)})


def _scaled(x: ov.Node) -> ov.Node:
    return op.add(op.multiply(x, np.float32(2)), np.float32(1))


def _input(name: str, shape: Shape, type_name: str = "f32") -> ov.op.Parameter:
    parameter = op.parameter(ov.PartialShape(shape), getattr(ov.Type, type_name), name)
    parameter.output(0).set_names({name})
    return parameter


def _save(folder: Path, name: str, inputs: Inputs, outputs: dict[str, ov.Node]) -> Path:
    results = [result(*item) for item in outputs.items()]
    return write(folder, name, ov.Model(results, inputs, name))
