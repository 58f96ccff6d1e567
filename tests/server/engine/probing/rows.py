"""Models of rows, and how many rows may share a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as op

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.probing.batching import Batching, probe_batching
from tests import models

Build = Callable[[ov.Node], ov.Node]
Array = npt.NDArray[Any]

BATCH = np.array([0])
"""The axis of the rows."""
OTHERS = "output 'y' of a row depends on the other rows"
COUNT = "output 'y' of a row depends on the number of rows"
NOT_ROWS = "output 'y' does not have one row per input row"


def build(folder: Path, function: Build, shape: models.Shape | None = None, type_name: str = "f32") -> Path:
    """x: any[?,16] -> y, a function of x."""
    parameter = op.parameter(ov.PartialShape(shape or [-1, 16]), getattr(ov.Type, type_name), "x")
    parameter.output(0).set_names({"x"})
    result = op.result(function(parameter))
    result.output(0).set_names({"y"})
    path = folder / "built.xml"
    ov.save_model(ov.Model([result], [parameter], "built"), path, compress_to_fp16=False)
    return path


def compiled(core: ov.Core, path: Path, run: Literal["direct", "async"] = "direct") -> CompiledModel:
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    return compile_model(core, "m", "1", path, Compilation(run=run, properties=properties, batch=1))


def rows_of(
    model: CompiledModel, requested: int | None = 8, *, in_place: bool = True, max_seconds: float = 1.0
) -> Batching:
    spec = model.spec
    return probe_batching(
        model.runtime, spec.inputs, spec.outputs, requested=requested, in_place=in_place, max_seconds=max_seconds
    )


def infer(request: ov.InferRequest, x: Array) -> Array:
    """One run, with its input set.

    A request that uses a tensor of its own may write to whatever memory another one has set for an input of dynamic
    shape, even after that was freed: the runtime (openvino 2026.4) takes it for its own.
    """
    request.set_input_tensor(0, ov.Tensor(x, shared_memory=True))
    request.infer(share_outputs=True)
    result: Array = request.get_output_tensor(0).data.copy()
    return result


def constant(value: object, dtype: npt.DTypeLike = np.float32) -> ov.Node:
    return op.constant(np.asarray(value, dtype))


def count_rows(x: ov.Node) -> ov.Node:
    return op.gather(op.shape_of(x), constant(0, np.int64), constant(0, np.int64))
