"""Inputs of an operation match, or the run fails, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset1, opset3, opset4, opset8, opset9, opset13

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.guarding.mismatched_sizes.guards import guard_sizes
from headrace.server.engine.models import compile_model
from headrace.wire.errors import FailedPrecondition
from tests.server.engine.example import real, whole
from tests.server.engine.guarding.mismatched_sizes.checked import REFUSED
from tests.server.engine.guarding.mismatched_sizes.fitted import FITTED
from tests.server.engine.walks import take_walk

Shape = list[int]
Build = Callable[..., Any]
PROPOSED = {
    "base_size": np.uint32(16),
    "pre_nms_topn": np.uint32(20),
    "post_nms_topn": np.uint32(5),
    "nms_thresh": 0.7,
    "feat_stride": np.uint32(16),
    "min_size": np.uint32(1),
    "ratio": np.array([1], np.float32),
    "scale": np.array([2, 4], np.float32),
}
UNKNOWN: dict[str, tuple[list[Shape], Build, str]] = {
    "GenerateProposals": (
        [[-1, -1], [3, 3, 2, 4], [-1, 8, 3, 3], [-1, 2, 3, 3]],
        lambda *inputs: opset9.generate_proposals(*inputs, 0.0, 0.7, 10, 5).output(0),
        "images",
    ),
    "NV12toBGR": ([[1, -1, 4, 1], [1, 2, 2, 2]], opset8.nv12_to_bgr, "an image"),
    "I420toRGB": ([[1, 4, 4, 1], [1, 2, -1, 1], [1, 2, 2, 1]], opset8.i420_to_rgb, "an image"),
    "Proposal": (
        [[1, 4, -1, 3], [1, 8, 3, 3], [3]],
        lambda *inputs: opset4.proposal(*inputs, PROPOSED).output(0),
        "an input",
    ),
}


def test_mismatched_shapes_reveal_no_foreign_memory() -> None:
    """Both where the server guards the operation and where it relies on the runtime to check, as it does today."""
    assert take_walk("tests.server.engine.guarding.mismatched_sizes.walk") == [*FITTED, *REFUSED]


@pytest.mark.parametrize("type_name", UNKNOWN)
def test_models_that_cannot_be_guarded_are_refused(type_name: str) -> None:
    shapes, build, what = UNKNOWN[type_name]
    model = of(shapes, build)
    (node,) = [node for node in model.get_ops() if node.get_type_name() == type_name]
    with pytest.raises(FailedPrecondition) as caught:
        guard_sizes(model)
    named = f"{type_name} '{node.get_friendly_name()}'"
    assert caught.value.message == f"{named} takes {what} of dynamic size, and the runtime does not check it"


def of(shapes: list[Shape], build: Build) -> ov.Model:
    parameters = [opset1.parameter(shape, np.float32) for shape in shapes]
    return ov.Model([opset1.result(build(*parameters))], parameters, "model")


def attended(x: ov.Node) -> ov.Node:
    """Queries, keys and values computed from one input, so that their numbers match."""
    queries, keys, values = (
        opset1.transpose(
            opset1.reshape(opset1.matmul(x, real(np.eye(16)), False, False), whole([0, 0, 2, 8]), True),
            whole([0, 2, 1, 3]),
        )
        for _ in range(3)
    )
    return opset13.scaled_dot_product_attention(queries, keys, values)


@pytest.mark.parametrize(
    ("shapes", "build"),
    [
        ([[4, 16], [2, 16]], lambda x, y: opset1.concat([opset1.matmul(x, real(np.eye(16)), False, False), y], 0)),
        ([[-1, 16]], lambda x: opset1.matmul(x, real(np.eye(16)), False, False)),
        ([[-1, -1], [-1, -1]], lambda x, y: opset1.matmul(x, y, False, False)),
        ([[-1, 4]], lambda x: opset8.gather(x, whole([0, 1]), whole(1))),
        ([[-1, -1, 16]], attended),
        ([[-1, 4]], lambda x: opset3.scatter_elements_update(x, opset1.convert(x, "i32"), x, whole(1))),
    ],
)
def test_matching_models_are_left_unchanged(shapes: list[Shape], build: Build) -> None:
    model = of(shapes, build)
    before = [node.get_name() for node in model.get_ordered_ops()]
    declared = [str(port.get_partial_shape()) for port in (*model.inputs, *model.outputs)]
    guard_sizes(model)
    assert [node.get_name() for node in model.get_ordered_ops()] == before
    assert [str(port.get_partial_shape()) for port in (*model.inputs, *model.outputs)] == declared
    assert not any(each.has_symbol() for port in model.inputs for each in port.get_partial_shape())


def test_the_runtime_still_recognises_a_cache() -> None:
    """Only what is appended is cut, so the runtime still appends to its cache without copying it."""
    model = FITTED["ScaledDotProductAttention-13 that remembers"].model()
    before = layers(model)
    guard_sizes(model)
    after = layers(model)
    assert before.count("Concatenation") == after.count("Concatenation")
    assert "StridedSlice" in set(after) - set(before)


def layers(model: ov.Model) -> list[str]:
    compiled = ov.Core().compile_model(model, "CPU")
    return [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]


def test_a_guarded_model_loads(tmp_path: Path) -> None:
    path = tmp_path / "weights.xml"
    ov.save_model(FITTED["MatMul-1 by weights"].model(), path)
    model = compile_model(ov.Core(), "m", "1", path, Compilation(run="async", batch=1))
    request = model.runtime.create_infer_request()
    request.start_async([np.ones((2, 4), np.float32)])
    request.wait()
    assert request.get_output_tensor(0).data.tolist() == [[1.0] * 5] * 2
    request.start_async([np.full((2, 1), 3, np.float32)])
    with pytest.raises(RuntimeError):  # the guard of the width comes first, and says no
        request.wait()


def test_a_refused_model_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "image.xml"
    shapes, build, _ = UNKNOWN["NV12toBGR"]
    ov.save_model(of(shapes, build), path)
    with pytest.raises(
        FailedPrecondition, match=r"^model 'm' cannot be served: NV12toBGR .* takes an image of dynamic size"
    ):
        compile_model(ov.Core(), "m", "1", path, Compilation())
