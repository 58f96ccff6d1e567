"""What loading a model takes of the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset15 as op

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.server.engine.runtime import OpenVinoEngine

MIB = 1 << 20
F32 = Compilation(properties={"INFERENCE_PRECISION_HINT": "f32"}, run="async")


def product(folder: Path) -> Path:
    """x: f32[1,4096] -> f32[1,4096], by weights of 64 MiB."""
    x = op.parameter([1, 4096], ov.Type.f32, name="x")
    weights = op.constant(np.random.default_rng(0).random((4096, 4096), np.float32))
    path = folder / "product.xml"
    ov.save_model(ov.Model([op.matmul(x, weights, False, False)], [x], "product"), path, compress_to_fp16=False)
    return path


def test_memory_is_what_loading_adds_each_time(tmp_path: Path) -> None:
    path = product(tmp_path)
    engine = OpenVinoEngine()
    findings = compile_model(ov.Core(), "m", "1", path, F32).findings
    specs = [engine.load("m", str(version), path, F32, findings=findings) for version in range(3)]
    for spec in specs:
        assert spec.weights_bytes == 64 * MIB
        # The runtime may use the pages of the file as they are, or its own order of the weights beside them.
        assert 60 * MIB <= spec.memory_bytes <= 200 * MIB
    assert abs(specs[1].memory_bytes - specs[2].memory_bytes) <= 4 * MIB
    engine.close()
