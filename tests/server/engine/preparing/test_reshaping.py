"""Clients may send and get other shapes than those of the model, with the same elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.port_options import InputOptions, OutputOptions
from headrace.wire.errors import FailedPrecondition
from tests import models


def test_static_ports_get_other_shapes(tmp_path: Path) -> None:
    """The other input and the other output stay as they are, and so do the names."""
    compilation = Compilation(
        inputs={"x": InputOptions(shape="2,16", reshape="32"), "y": InputOptions(shape="2,16")},
        outputs={"product": OutputOptions(reshape="4,8,1")},
    )
    compiled = compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), compilation)
    assert [str(port) for port in compiled.spec.inputs] == ["FP32[32]", "FP32[2,16]"]
    assert [(port.names, str(port)) for port in compiled.spec.outputs] == [
        (("sum",), "FP32[2,16]"),
        (("product",), "FP32[4,8,1]"),
    ]
    x, y = np.arange(32, dtype=np.float32), np.ones((2, 16), np.float32)
    total, product = compiled.runtime([x, y]).values()
    assert np.array_equal(total, x.reshape(2, 16) + 1)
    assert np.array_equal(product, x.reshape(4, 8, 1))


@pytest.mark.parametrize(
    ("shape", "sent", "ports"),
    [
        ("?,16", "?,4,4", ["FP32[?,4,4]", "FP32[?,16]"]),
        ("1..8,16", "1..8,2,8", ["FP32[1..8,2,8]", "FP32[1..8,16]"]),
        ("?,16", "?", ["FP32[?]", "FP32[?,16]"]),
    ],
)
def test_the_number_of_rows_stays_dynamic(tmp_path: Path, shape: str, sent: str, ports: list[str]) -> None:
    compilation = Compilation(inputs={"x": InputOptions(shape=shape, reshape=sent), "y": InputOptions(shape=shape)})
    compiled = compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), compilation)
    assert [str(port) for port in compiled.spec.inputs] == ports
    assert str(compiled.spec.outputs[0]) == "FP32[?,16]" or sent != "?,4,4"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("31", r"'\[31\]' cannot become '\[2,16\]': it has another number of elements"),
        ("x", "'x' is not a shape"),
    ],
)
def test_shapes_that_cannot_be(tmp_path: Path, sent: str, message: str) -> None:
    compilation = Compilation(inputs={"x": InputOptions(shape="2,16", reshape=sent), "y": InputOptions(shape="2,16")})
    with pytest.raises(FailedPrecondition, match=message):
        compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), compilation)


def test_several_dynamic_sizes_cannot_be_told(tmp_path: Path) -> None:
    compilation = Compilation(outputs={"sum": OutputOptions(reshape="?,?,?")})
    with pytest.raises(FailedPrecondition, match="several sizes are dynamic"):
        compile_model(ov.Core(), "m", "1", models.add_multiply(tmp_path), compilation)
