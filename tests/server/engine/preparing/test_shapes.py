"""Inputs get the shapes that their options say, or the model is not loaded."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.port_options import InputOptions
from headrace.wire.errors import FailedPrecondition
from tests import models


def shapes(path: Path, **inputs: str) -> list[str]:
    """The ports of the inputs of a model whose inputs have been given shapes."""
    compilation = Compilation(inputs={name: InputOptions(shape=shape) for name, shape in inputs.items()})
    return [str(port) for port in compile_model(ov.Core(), "m", "1", path, compilation).spec.inputs]


def test_a_dynamic_input_becomes_static_and_bounded(tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    (name,) = (port.name for port in compile_model(ov.Core(), "m", "1", path, Compilation()).spec.inputs)
    assert shapes(path, **{name: "3,4"}) == ["FP32[3,4]"]
    assert shapes(path, **{name: "[1..8, ?]"}) == ["FP32[1..8,?]"]


@pytest.mark.parametrize(
    ("shape", "port"),
    [
        ("8,...", "FP32[8,16]"),
        ("1..8,...", "FP32[1..8,16]"),
        ("8,16,...", "FP32[8,16]"),
        ("...", "FP32[?,16]"),
        ("dynamic", "FP32[?,?]"),
    ],
)
def test_a_shape_may_leave_dimensions_as_they_are(tmp_path: Path, shape: str, port: str) -> None:
    assert shapes(models.add_multiply(tmp_path), x=shape, y=shape) == [port, port]
    assert shapes(models.add_multiply(tmp_path), **{"*": shape}) == [port, port]


def test_the_options_of_all_others_leave_named_inputs_alone(tmp_path: Path) -> None:
    assert shapes(models.add_multiply(tmp_path), **{"*": "1,16", "y": "?,16"}) == ["FP32[1,16]", "FP32[?,16]"]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("none", "1,2", r"^model 'm' cannot be prepared: it has no input 'none'; it has 'x'$"),
        ("x", "1,,2", r"^model 'm' cannot be prepared: '1,,2' is not a shape: write one such as 1,3,224,224"),
        ("x", "water", r"'water' is not a shape"),
    ],
)
def test_shapes_that_cannot_be(tmp_path: Path, name: str, shape: str, message: str) -> None:
    with pytest.raises(FailedPrecondition, match=message):
        shapes(models.scale(tmp_path), **{name: shape})
