"""Models that harm the process that loads or runs them: each function saves one in a folder and says where."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper
from openvino import opset15 as op


def four_bit(folder: Path) -> Path:
    """x: f32[?,64] -> y: f32[?,64], the product by weights of four bits: in f32, from five rows on, perhaps SIGFPE."""
    x = op.parameter(ov.PartialShape([-1, 64]), ov.Type.f32, "x")
    x.output(0).set_names({"x"})
    packed = np.random.default_rng(1).integers(0, 256, 64 * 32, np.uint8)
    tensor = ov.Tensor(packed, ov.Shape([64, 64]), ov.Type.u4)
    weights = op.multiply(op.convert(op.constant(tensor), "f32"), op.constant(np.full((64, 1), 0.1, np.float32)))
    result = op.result(op.matmul(x, weights, False, True))
    result.output(0).set_names({"y"})
    path = folder / "four_bit.xml"
    ov.save_model(ov.Model([result], [x], "four_bit"), path, compress_to_fp16=False)
    return path


def endless(folder: Path) -> Path:
    """ONNX of the opset 2^40, which the runtime reads for ever."""
    shape = [1]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1 << 40)])
    path = folder / "endless.onnx"
    onnx.save(model, path)
    return path


def ctc_loss(folder: Path) -> Path:
    """CTCLoss of static shapes, which run on zeros ends the runtime by SIGSEGV."""
    inputs = []
    for name, shape, type_name in [
        ("logits", [2, 8, 6], ov.Type.f32),
        ("lengths", [2], ov.Type.i32),
        ("labels", [2, 8], ov.Type.i32),
        ("label_lengths", [2], ov.Type.i32),
        ("blank", [], ov.Type.i32),
    ]:
        each = op.parameter(ov.PartialShape(shape), type_name, name)
        each.output(0).set_names({name})
        inputs.append(each)
    result = op.result(op.ctc_loss(*inputs))
    result.output(0).set_names({"loss"})
    path = folder / "ctc_loss.xml"
    ov.save_model(ov.Model([result], inputs, "ctc_loss"), path, compress_to_fp16=False)
    return path


def corruptions(content: bytes, count: int, seed: int = 1) -> Iterator[bytes]:
    """The content, damaged in ways in which files are: cut, overwritten, swapped, filled, and bits turned over."""
    generator = random.Random(seed)
    for number in range(count):
        yield _damaged(bytearray(content), number, generator)


def _damaged(data: bytearray, number: int, generator: random.Random) -> bytes:
    place = generator.randrange(len(data))
    length = min(generator.choice((1, 4, 16, 256)), len(data) - place)
    match number % 6:
        case 0:
            del data[place:]
        case 1:
            data[place : place + length] = generator.randbytes(length)
        case 2:
            del data[place : place + length]
        case 3:
            data[place:place] = data[: generator.randrange(1, len(data))]
        case 4:
            data[place : place + length] = bytes([generator.choice((0, 0xFF))]) * length
        case _:
            for _ in range(generator.randrange(1, 9)):
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(data)
