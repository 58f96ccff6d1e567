"""Examples of operations: small models, by their inputs and how they are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as op

Build = Callable[..., Any]
"""From the parameters to what the model gives: a node, or an output of one; or that and what assigns variables."""
Examples = dict[str, list["Example"]]
"""By the type and the version of the operation, as in "Add.opset1"."""

NUMERIC = ("f32", "i32", "i64")
TYPES = ("boolean", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")


@dataclass(frozen=True, slots=True)
class Input:
    type_name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One model, with an output for each of the builds."""

    inputs: tuple[Input, ...]
    builds: tuple[Build, ...]

    def model(self) -> ov.Model:
        parameters = [op.parameter(list(each.shape), getattr(ov.Type, each.type_name)) for each in self.inputs]
        results, sinks = [], []
        for build in self.builds:
            built = build(*parameters)
            shown, assigned = built if isinstance(built, tuple) else (built, [])
            results.append(op.result(shown))
            sinks += assigned
        return ov.Model(results, sinks, parameters, "example")


def f32(*shape: int) -> Input:
    return Input("f32", shape)


def i32(*shape: int) -> Input:
    return Input("i32", shape)


def i64(*shape: int) -> Input:
    return Input("i64", shape)


def boolean(*shape: int) -> Input:
    return Input("boolean", shape)


def of(inputs: Sequence[Input] | Input, *builds: Build) -> list[Example]:
    """One example: of one input or several, built in these ways."""
    return [Example((inputs,) if isinstance(inputs, Input) else tuple(inputs), builds)]


def whole(*values: int | list[Any]) -> ov.Node:
    """A constant of i64: `whole(3)` is a scalar, `whole([3, 4])` a vector."""
    (value,) = values
    return op.constant(np.array(value, np.int64))


def real(value: Any) -> ov.Node:
    """A constant of f32."""
    return op.constant(np.asarray(value, np.float32))


def weights(*shape: int) -> ov.Node:
    """A constant of f32 with values that do not repeat."""
    return real(np.random.default_rng(1).normal(size=shape))
