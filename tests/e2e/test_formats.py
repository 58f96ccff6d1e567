"""Formats that OpenVINO reads without conversion, by the same call: real models, beside OpenVINO alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve
from tests.packaged_models import ANGLES, FACES, RESNET, WORDS, packaged

GRAPH = """
node { name: "x" op: "Placeholder"
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "shape" value { shape { dim { size: -1 } dim { size: 4 } } } } }
node { name: "one" op: "Const"
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_shape { } float_val: 1.0 } } } }
node { name: "y" op: "AddV2" input: "x" input: "one" attr { key: "T" value { type: DT_FLOAT } } }
versions { producer: 1882 }
"""
"""A TensorFlow GraphDef in its text form: y = x + 1."""


@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        pytest.param(FACES, (1, 128, 128, 3), id="TFLite: BlazeFace"),
        pytest.param(ANGLES, (2, 3, 48, 192), id="Paddle: direction of text"),
        pytest.param(WORDS, (1, 3, 48, 320), id="Paddle: text recogniser"),
        pytest.param(RESNET, (1, 3, 224, 224), id="ONNX: ResNet-50"),
    ],
)
async def test_a_packaged_model_equals_openvino_alone(
    serve: Serve, parts: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    path = packaged(*parts)
    data = np.random.default_rng(3).random(shape, np.float32)
    expected = list(ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(data).values())
    served = serve(f"model={path}")
    async with hc.connect(served.address) as server:
        (model,) = await server.models()
        outputs = await server.infer("model", {model.inputs[0].name: data})
        assert list(outputs) == [port.name for port in model.outputs]
        for port, array in zip(model.outputs, expected, strict=True):
            np.testing.assert_allclose(outputs[port.name], array, atol=1e-4)


@pytest.mark.parametrize("argument", ["add", "add/saved_model.pb"])
async def test_a_saved_model_is_served_by_its_folder(serve: Serve, tmp_path: Path, argument: str) -> None:
    (tmp_path / "add").mkdir()
    models.saved_model(tmp_path / "add")
    served = serve(str(tmp_path / argument))
    async with hc.connect(served.address) as server:
        (model,) = await server.models()
        assert (model.name, model.inputs[0].shape) == ("add", (None, 4))
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        (y,) = (await server.infer("add", {model.inputs[0].name: x})).values()
        np.testing.assert_array_equal(y, x + 1)


async def test_a_tensorflow_model_is_served(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "add.pbtxt"
    path.write_text(GRAPH)
    served = serve(f"add={path}")
    async with hc.connect(served.address) as server:
        (model,) = await server.models()
        assert model.inputs[0].shape == (None, 4)
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        (y,) = (await server.infer("add", {model.inputs[0].name: x})).values()
        np.testing.assert_array_equal(y, x + 1)
