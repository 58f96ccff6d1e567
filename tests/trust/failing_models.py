"""Small models with operations that fail for some data, and their results for other data.

Numbers are small integers, so that all of them are exact in f32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as op

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class FailingModel:
    """`build` makes the model, `draw` inputs for a good run or a bad one; `expect` is the output `y` of a good one."""

    build: Callable[[], ov.Model]
    draw: Callable[[Random, bool], Arrays]
    expect: Callable[[Arrays], Array]

    def save(self, folder: Path, name: str) -> Path:
        path = folder / f"{name}.xml"
        ov.save_model(self.build(), path, compress_to_fp16=False)
        return path


def numbers(random: Random, *shape: int) -> Array:
    return random.integers(-99, 99, shape).astype(np.float32)


def rows(random: Random) -> int:
    """One of a few sizes, so that a later run often has the shapes of an earlier one."""
    return int(random.choice([1, 2, 3, 5]))


def _input(name: str, shape: list[int], type_name: str = "f32") -> ov.op.Parameter:
    parameter = op.parameter(ov.PartialShape(shape), getattr(ov.Type, type_name), name)
    parameter.output(0).set_names({name})
    return parameter


def _model(inputs: list[ov.op.Parameter], y: ov.Node) -> ov.Model:
    result = op.result(y)
    result.output(0).set_names({"y"})
    return ov.Model([result], inputs, "failing")


def scatter_nd() -> FailingModel:
    """Static. Replacing a row that does not exist fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [4, 2]), _input("i", [2, 1], "i64"), _input("u", [2, 2])]
        return _model(inputs, op.scatter_nd_update(*inputs))

    def draw(random: Random, good: bool) -> Arrays:
        index = random.permutation(4)[:2].reshape(2, 1)
        return {"x": numbers(random, 4, 2), "i": index if good else index + 100, "u": numbers(random, 2, 2)}

    def expect(given: Arrays) -> Array:
        y = given["x"].copy()
        y[given["i"][:, 0]] = given["u"]
        return y

    return FailingModel(build, draw, expect)


def scatter() -> FailingModel:
    """Static. The same with ScatterUpdate, among other operations."""

    def build() -> ov.Model:
        inputs = [_input("x", [4, 2]), _input("i", [2], "i64"), _input("u", [2, 2])]
        x, index, update = inputs
        doubled = op.multiply(x, np.float32(2))
        return _model(inputs, op.add(op.scatter_update(doubled, index, update, np.int64(0)), np.float32(1)))

    def draw(random: Random, good: bool) -> Arrays:
        index = random.permutation(4)[:2]
        return {"x": numbers(random, 4, 2), "i": index if good else index + 100, "u": numbers(random, 2, 2)}

    def expect(given: Arrays) -> Array:
        y = 2 * given["x"]
        y[given["i"]] = given["u"]
        return y + np.float32(1)

    return FailingModel(build, draw, expect)


def scatter_elements() -> FailingModel:
    """Static. Replacing an element that does not exist fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [3, 4]), _input("i", [3, 2], "i64"), _input("u", [3, 2])]
        return _model(inputs, op.scatter_elements_update(*inputs, np.int64(1)))

    def draw(random: Random, good: bool) -> Arrays:
        index = np.array([random.permutation(4)[:2] for _ in range(3)])
        return {"x": numbers(random, 3, 4), "i": index if good else index + 100, "u": numbers(random, 3, 2)}

    def expect(given: Arrays) -> Array:
        y = given["x"].copy()
        np.put_along_axis(y, given["i"], given["u"], 1)
        return y

    return FailingModel(build, draw, expect)


def reverse() -> FailingModel:
    """Static. A length greater than that of the sequence fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [3, 6]), _input("lengths", [3], "i32")]
        return _model(inputs, op.reverse_sequence(*inputs, 0, 1))

    def draw(random: Random, good: bool) -> Arrays:
        lengths = random.integers(1, 7, 3).astype(np.int32)
        return {"x": numbers(random, 3, 6), "lengths": lengths if good else lengths + 10}

    def expect(given: Arrays) -> Array:
        y = given["x"].copy()
        for row, length in zip(y, given["lengths"], strict=True):
            row[:length] = row[:length][::-1]
        return y

    return FailingModel(build, draw, expect)


def sum_along() -> FailingModel:
    """Static. CumSum along an axis that does not exist fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [3, 4]), _input("axis", [], "i64")]
        return _model(inputs, op.cum_sum(*inputs))

    def draw(random: Random, good: bool) -> Arrays:
        return {"x": numbers(random, 3, 4), "axis": np.array(random.integers(0, 2) if good else 7)}

    def expect(given: Arrays) -> Array:
        return given["x"].cumsum(int(given["axis"]), np.float32)

    return FailingModel(build, draw, expect)


def gather_elements(*, static: bool) -> FailingModel:
    """Gathering an element that does not exist fails."""
    first = 3 if static else -1

    def build() -> ov.Model:
        inputs = [_input("x", [first, 4]), _input("i", [first, 2], "i32")]
        return _model(inputs, op.gather_elements(*inputs, 1))

    def draw(random: Random, good: bool) -> Arrays:
        count = 3 if static else rows(random)
        index = random.integers(0, 4, (count, 2)).astype(np.int32)
        return {"x": numbers(random, count, 4), "i": index if good else index + 99}

    def expect(given: Arrays) -> Array:
        return np.take_along_axis(given["x"], given["i"].astype(np.int64), 1)

    return FailingModel(build, draw, expect)


def deep() -> FailingModel:
    """Dynamic. The same among other operations."""

    def build() -> ov.Model:
        inputs = [_input("x", [-1, 4]), _input("i", [-1, 2], "i32")]
        x, index = inputs
        before = op.add(op.multiply(op.relu(x), np.float32(3)), np.float32(1))
        found = op.gather_elements(before, index, 1)
        after = op.matmul(found, op.constant(np.array([[1, 2, 3], [4, 5, 6]], np.float32)), False, False)
        return _model(inputs, op.concat([after, op.transpose(op.transpose(after, [1, 0]), [1, 0])], 1))

    def draw(random: Random, good: bool) -> Arrays:
        count = rows(random)
        index = random.integers(0, 4, (count, 2)).astype(np.int32)
        return {"x": numbers(random, count, 4), "i": index if good else index - 99}

    def expect(given: Arrays) -> Array:
        before = np.maximum(given["x"], 0) * 3 + 1
        found = np.take_along_axis(before, given["i"].astype(np.int64), 1)
        after = found @ np.array([[1, 2, 3], [4, 5, 6]], np.float32)
        return np.concatenate([after, after], 1)

    return FailingModel(build, draw, expect)


def mismatched() -> FailingModel:
    """Dynamic. Numbers of rows that do not match fail."""

    def build() -> ov.Model:
        inputs = [_input("a", [-1, 4]), _input("b", [-1, 4])]
        return _model(inputs, op.multiply(op.add(*inputs), np.float32(2)))

    def draw(random: Random, good: bool) -> Arrays:
        count = rows(random)
        return {"a": numbers(random, count, 4), "b": numbers(random, count if good else 7 + count, 4)}

    def expect(given: Arrays) -> Array:
        return (given["a"] + given["b"]) * 2

    # A single row goes together with any number of rows.
    return FailingModel(build, lambda random, good: _not_one(draw, random, good), expect)


def _not_one(draw: Callable[[Random, bool], Arrays], random: Random, good: bool) -> Arrays:
    while True:
        given = draw(random, good)
        if good or len(given["a"]) > 1:
            return given


def reshape_by_data() -> FailingModel:
    """Dynamic inside. A shape of another number of elements fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [16]), _input("shape", [2], "i64")]
        return _model(inputs, op.add(op.reshape(*inputs, special_zero=False), np.float32(1)))

    def draw(random: Random, good: bool) -> Arrays:
        first = int(random.choice([1, 2, 4, 8, 16]))
        return {"x": numbers(random, 16), "shape": np.array([first, 16 // first]) if good else np.array([3, first])}

    def expect(given: Arrays) -> Array:
        return given["x"].reshape(given["shape"]) + np.float32(1)

    return FailingModel(build, draw, expect)


def reshape() -> FailingModel:
    """Dynamic. Any other number than 16 elements fails."""

    def build() -> ov.Model:
        x = _input("x", [-1])
        return _model([x], op.add(op.reshape(x, np.array([2, 8]), special_zero=False), np.float32(1)))

    def draw(random: Random, good: bool) -> Arrays:
        return {"x": numbers(random, 16 if good else int(random.integers(1, 16)))}

    def expect(given: Arrays) -> Array:
        return given["x"].reshape(2, 8) + np.float32(1)

    return FailingModel(build, draw, expect)


def non_zero() -> FailingModel:
    """Dynamic inside: the elements that are not zero, in pairs. An odd number of them fails."""

    def build() -> ov.Model:
        x = _input("x", [-1])
        places = op.squeeze(op.non_zero(x), np.array([0]))
        found = op.gather(x, places, np.int64(0))
        return _model([x], op.add(op.reshape(found, np.array([-1, 2]), special_zero=False), np.float32(1)))

    def draw(random: Random, good: bool) -> Arrays:
        zeros = np.zeros(rows(random), np.float32)
        count = 2 * rows(random) + (0 if good else 1)
        found = random.integers(1, 99, count).astype(np.float32)
        return {"x": random.permutation(np.concatenate([zeros, found]))}

    def expect(given: Arrays) -> Array:
        pairs: Array = given["x"][given["x"] != 0].reshape(-1, 2)
        return pairs + np.float32(1)

    return FailingModel(build, draw, expect)


def spread() -> FailingModel:
    """Dynamic inside: data determine the number of columns. A wrong number of rows fails."""

    def build() -> ov.Model:
        inputs = [_input("x", [-1, 1]), _input("shape", [2], "i64")]
        return _model(inputs, op.multiply(op.broadcast(*inputs), np.float32(2)))

    def draw(random: Random, good: bool) -> Arrays:
        count, columns = 1 + rows(random), rows(random)
        return {"x": numbers(random, count, 1), "shape": np.array([count if good else count + 3, columns])}

    def expect(given: Arrays) -> Array:
        return np.broadcast_to(given["x"], given["shape"].tolist()) * np.float32(2)

    return FailingModel(build, draw, expect)


FAILING_MODELS: dict[str, FailingModel] = {
    "scatter_nd": scatter_nd(),
    "scatter": scatter(),
    "scatter_elements": scatter_elements(),
    "reverse": reverse(),
    "sum_along": sum_along(),
    "gather_elements_static": gather_elements(static=True),
    "gather_elements": gather_elements(static=False),
    "deep": deep(),
    "mismatched": mismatched(),
    "reshape_by_data": reshape_by_data(),
    "reshape": reshape(),
    "non_zero": non_zero(),
    "spread": spread(),
}
