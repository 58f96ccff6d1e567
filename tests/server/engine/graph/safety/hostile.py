"""Hostile data and ordinary data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from ml_dtypes import bfloat16

from tests.server.engine.example import Input

Array = npt.NDArray[Any]
_DTYPES: dict[str, type] = {
    "boolean": np.bool_,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "f16": np.float16,
    "bf16": bfloat16,
    "f32": np.float32,
    "f64": np.float64,
}
_WHOLE = (0, -1, 1, 5, -5, 100, 1 << 20, -(1 << 31), (1 << 31) - 1, 1 << 40, -(1 << 40))


def values(type_name: str) -> list[Any]:
    """Zero, NaN, infinities, the smallest and the largest numbers, and values that are out of range as indices."""
    dtype = _DTYPES[type_name]
    if dtype is np.bool_:
        return [False, True]
    if np.issubdtype(dtype, np.integer):
        range_of = np.iinfo(dtype)
        return sorted({each for each in (*_WHOLE, range_of.min, range_of.max) if range_of.min <= each <= range_of.max})
    with np.errstate(over="ignore"):
        largest = 3e38 if type_name in ("bf16", "f32") else np.finfo(dtype).max
    return [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, -5.5, 100.0, 1e-40, float(largest), -float(largest)]


def ordinary(given: Input, seed: int) -> Array:
    """Small numbers: as indices, lengths and divisors they are in range."""
    random = np.random.default_rng(seed)
    dtype = _DTYPES[given.type_name]
    if np.issubdtype(dtype, np.integer) or dtype is np.bool_:
        return random.integers(0, 2, given.shape).astype(dtype)
    return np.asarray(random.normal(size=given.shape)).astype(dtype)


def hostile(inputs: tuple[Input, ...]) -> Iterator[tuple[str, list[Array]]]:
    """A description of the data, and the data: each value in each input, then all values in all inputs."""
    for index, given in enumerate(inputs):
        for value in values(given.type_name):
            data = [ordinary(each, 3) for each in inputs]
            data[index] = np.full(given.shape, value, _DTYPES[given.type_name])
            yield f"{value} in input {index}", data
    yield (
        "everything in every input",
        [np.resize(np.array(values(each.type_name), _DTYPES[each.type_name]), each.shape) for each in inputs],
    )


def empty(inputs: tuple[Input, ...]) -> Iterator[tuple[str, list[Array]]]:
    """Ordinary data with an empty axis: of one input alone, and together with all axes of the same size."""
    for index, given in enumerate(inputs):
        for axis, size in enumerate(given.shape):
            for together in (False, True):
                data = [
                    ordinary(Input(each.type_name, _without(each.shape, size) if together else each.shape), 3)
                    for each in inputs
                ]
                data[index] = np.delete(ordinary(given, 3), range(size), axis)
                yield f"axis {axis} of input {index} empty", data


def _without(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(0 if length == size else length for length in shape)
