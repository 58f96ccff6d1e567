"""Models with variables, each built in a folder; and what plain OpenVINO makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset3
from openvino import opset15 as op
from openvino.passes import MakeStateful, Manager

from tests.packaged_models import packaged
from tests.saving import result, write

Array = npt.NDArray[Any]
F32 = {"INFERENCE_PRECISION_HINT": "f32"}
UNITS, FEATURES = 16, 8


def lstm(folder: Path, rows: int = -1, name: str = "lstm") -> Path:
    """x: f32[rows,8] -> y: f32[rows,16], by a cell whose variables h and c begin with zeros of as many rows."""
    x = named_input("x", [rows, FEATURES])
    random = np.random.default_rng(3)
    weights = [random.standard_normal(shape, np.float32) for shape in ((4 * UNITS, FEATURES), (4 * UNITS, UNITS))]
    h, c = (read_value(name, [rows, UNITS], _zeros_like(x)) for name in "hc")
    cell = op.lstm_cell(x, h[0], c[0], *weights, random.standard_normal(4 * UNITS, np.float32), UNITS)
    after = [op.multiply(cell.output(number), np.float32(1)) for number in range(2)]
    assigns = [op.assign(value, variable) for value, (_, variable) in zip(after, (h, c), strict=True)]
    return write(folder, name, ov.Model([result("y", after[0])], assigns, [x], name))


def sum_from(folder: Path, initial: Sequence[float] | None = None, name: str = "sum") -> Path:
    """x: f32[2] -> y: f32[2], the sum of every x, from an initial one or, without, from the runtime's own zeros."""
    x = named_input("x", [2])
    read, variable = read_value("total", [2], None if initial is None else op.constant(np.array(initial, np.float32)))
    total = op.add(read, x)
    return write(folder, name, ov.Model([result("y", total)], [op.assign(total, variable)], [x], name))


def growing(folder: Path) -> Path:
    """x: f32[?,2] -> y: f32[?,2], the rows of every x so far: a variable that grows."""
    x = named_input("x", [-1, 2])
    read, variable = read_value("rows", [-1, 2], op.constant(np.zeros((0, 2), np.float32)))
    rows = op.concat([read, x], 0)
    return write(folder, "growing", ov.Model([result("y", rows)], [op.assign(rows, variable)], [x], "growing"))


def old(folder: Path) -> Path:
    """x: f32[1,3] -> y: f32[1,3], the sum of every x, with the first version of the operations."""
    x = named_input("x", [1, 3])
    total = op.add(opset3.read_value(op.constant(np.zeros((1, 3), np.float32)), "total"), x)
    model = ov.Model([result("y", total)], [opset3.assign(total, "total")], [x], "old")
    return write(folder, "old", model)


def first_seen(folder: Path) -> Path:
    """x: f32[?] -> y: f32[?], the first x: the variable begins with it, and is only read."""
    x = named_input("x", [-1])
    read, _ = read_value("first", [-1], x)
    return write(folder, "first_seen", ov.Model([result("y", read)], [], [x], "first_seen"))


def first_seen_sum(folder: Path) -> Path:
    """x: f32[?] -> y: f32[?], x and the first x, which must be of one size."""
    x = named_input("x", [-1])
    read, variable = read_value("first", [-1], x)
    total = op.concat([op.unsqueeze(read, np.int64(0)), op.unsqueeze(x, np.int64(0))], 0)
    y = op.reduce_sum(total, np.int64(0))
    model = ov.Model([result("y", y)], [op.assign(read, variable)], [x], "first_seen_sum")
    return write(folder, "first_seen_sum", model)


def last_seen(folder: Path) -> Path:
    """x: f32[2] -> y: f32[2], the x of the run before: the input itself is assigned."""
    x = named_input("x", [2])
    read, variable = read_value("last", [2], op.constant(np.zeros(2, np.float32)))
    return write(folder, "last_seen", ov.Model([result("y", read)], [op.assign(x, variable)], [x], "last_seen"))


def window(folder: Path) -> Path:
    """x: f32[1,4] -> y: f32[3,4], the last three: the input is joined to the variable."""
    x = named_input("x", [1, 4])
    read, variable = read_value("last", [3, 4], op.constant(np.zeros((3, 4), np.float32)))
    rest = op.slice(read, np.array([1]), np.array([3]), np.array([1]), np.array([0]))
    moved = op.concat([rest, x], 0)
    return write(folder, "window", ov.Model([result("y", moved)], [op.assign(moved, variable)], [x], "window"))


def named(folder: Path, variable_id: str, input_name: str, output_name: str) -> Path:
    """A sum whose variable and ports have given names."""
    x = named_input(input_name, [2])
    read, variable = read_value(variable_id, [2], op.constant(np.zeros(2, np.float32)))
    total = op.add(read, x)
    model = ov.Model([result(output_name, total)], [op.assign(total, variable)], [x], "named")
    return write(folder, "named", model)


def speech(folder: Path) -> Path:
    """Silero's voice activity detector with its state in a variable: input: f32[?,576] -> output: f32[?,1]."""
    model = ov.Core().read_model(packaged("silero_vad", "data", "silero_vad_openvino_16k.onnx"))
    manager = Manager()
    manager.register_pass(MakeStateful({"state": "stateN"}))
    manager.run_passes(model)
    return write(folder, "speech", model)


def steps(path: Path, inputs: Sequence[dict[str, Array]], output: str) -> Iterator[Array]:
    """An output of each run of plain OpenVINO, whose own variables go from run to run."""
    request = ov.Core().compile_model(path, "CPU", F32).create_infer_request()
    for each in inputs:
        yield np.array(request.infer(each)[output])


def _zeros_like(x: ov.Node) -> ov.Node:
    rows = op.gather(op.shape_of(x), np.int64(0), np.int64(0))
    return op.broadcast(np.float32(0), op.concat([op.unsqueeze(rows, np.int64(0)), np.array([UNITS])], 0))


def read_value(name: str, shape: Sequence[int], initial: ov.Node | None) -> tuple[ov.Node, ov.op.util.Variable]:
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([*shape]), ov.Type.f32, name
    variable = ov.op.util.Variable(info)
    read: Callable[..., ov.Node] = op.read_value
    return (read(variable) if initial is None else read(initial, variable)), variable


def named_input(name: str, shape: Sequence[int]) -> ov.op.Parameter:
    parameter = op.parameter(ov.PartialShape([*shape]), ov.Type.f32, name)
    parameter.output(0).set_names({name})
    return parameter
