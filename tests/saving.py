"""Saves models that a test has built."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
from openvino import opset15 as op


def result(name: str, source: ov.Node | ov.Output) -> ov.op.Result:
    """A result with one name."""
    made = op.result(source)
    made.output(0).set_names({name})
    return made


def write(folder: Path, name: str, model: ov.Model) -> Path:
    """Save a model as it is, without f16 in place of f32."""
    path = folder / f"{name}.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path
