"""Models for tests of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset15 as op


def uneven(folder: Path) -> Path:
    """a: f32[?,16], b: f32[?,4] -> wide: f32[?,16], narrow: f32[?,4]. Their widths differ."""
    a, b = _input([-1, 16]), _input([-1, 4])
    wide = op.subtract(a, op.reduce_sum(b, np.array([1]), keep_dims=True))
    narrow = op.subtract(op.multiply(b, np.float32(3)), op.reduce_max(a, np.array([1]), keep_dims=True))
    return _save(folder, {"a": a, "b": b}, {"wide": wide, "narrow": narrow})


def slow(folder: Path) -> Path:
    """x: f32[?,1] -> y: f32[?,1], x itself after 24 products of 1024x1024 matrices."""
    x, ones = _input([-1, 1]), op.constant(np.full((1024, 1024), 2**-10, np.float32))
    matrix = op.multiply(ones, op.reduce_mean(x, np.array([0, 1])))
    for _ in range(24):
        matrix = op.matmul(matrix, ones, False, False)
    nothing = op.multiply(op.reduce_mean(matrix, np.array([0, 1])), np.float32(0))
    return _save(folder, {"x": x}, {"y": op.add(x, nothing)})


def total(folder: Path) -> Path:
    """x: f32[?] -> more: f32[?], x + 1; total: f32[], the sum of x."""
    x = _input([-1])
    return _save(folder, {"x": x}, {"more": op.add(x, np.float32(1)), "total": op.reduce_sum(x, np.array([0]))})


def first(folder: Path) -> Path:
    """x: f32[?] -> y: f32[1], the first number."""
    x, zero, one = _input([-1]), np.array([0]), np.array([1])
    return _save(folder, {"x": x}, {"y": op.slice(x, zero, one, one)})


def _input(shape: list[int]) -> ov.Node:
    return op.parameter(ov.PartialShape(shape), ov.Type.f32)


def _save(folder: Path, inputs: dict[str, ov.Node], outputs: dict[str, ov.Node]) -> Path:
    model = ov.Model([op.result(node) for node in outputs.values()], [*inputs.values()], "model")
    for port, name in zip((*model.inputs, *model.outputs), (*inputs, *outputs), strict=True):
        port.set_names({name})
    path = folder / "model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path
