"""A model whose ports are not those that its operator has written down is not served."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.port_options import ExpectedPort, InputOptions
from headrace.wire.errors import FailedPrecondition
from tests import models


def compile_expecting(path: Path, *expected: ExpectedPort, **inputs: InputOptions) -> None:
    compile_model(ov.Core(), "m", "1", path, Compilation(expected=expected, inputs=inputs))


def test_what_fits_is_served(tmp_path: Path) -> None:
    compile_expecting(
        models.add_multiply(tmp_path),
        ExpectedPort("input", "x", "f:1", "FP32", "?,16"),
        ExpectedPort("input", "y", "f:2", "", "1..8,16"),
        ExpectedPort("output", "sum", "f:3", "FP32"),
        ExpectedPort("output", "product", "f:4", "", "8,..."),
    )
    compile_expecting(models.scale(tmp_path), ExpectedPort("input", "*", "f:1", "FP32"))


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (ExpectedPort("input", "z", "f.toml:3"), r"it has no input 'z' \(f.toml:3\); it has 'x', 'y'"),
        (ExpectedPort("output", "x", "f.toml:3"), r"it has no output 'x' \(f.toml:3\); it has 'sum', 'product'"),
        (ExpectedPort("input", "*", "f.toml:3"), r"f.toml:3 is for a model with one input; it has 'x', 'y'"),
        (
            ExpectedPort("input", "x", "f.toml:3", "INT64"),
            "f.toml:3 does not fit the model: its input 'x' has the datatype FP32, not INT64",
        ),
        (
            ExpectedPort("output", "sum", "f.toml:3", "", "?,17"),
            r"f.toml:3 does not fit the model: its output 'sum' has the shape \?,16, not \?,17",
        ),
        (
            ExpectedPort("input", "x", "f.toml:3", "", "16"),
            r"f.toml:3 does not fit the model: its input 'x' has the shape \?,16, not 16",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_line(tmp_path: Path, expected: ExpectedPort, message: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"^model 'm' cannot be prepared: {message}$"):
        compile_expecting(models.add_multiply(tmp_path), expected, x=InputOptions(shape="1,16"))
