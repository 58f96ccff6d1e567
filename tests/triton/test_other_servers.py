"""Folders as the documentation of other servers has them: tritonclient asks by name and version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper
from openvino import opset15 as op
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.e2e.serving import Serve

DENSENET = """name: "densenet_onnx"
platform: "onnxruntime_onnx"
max_batch_size : 0
input [
  {
    name: "data_0"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
  }
]
output [
  {
    name: "fc6_1"
    data_type: TYPE_FP32
    dims: [ 1000 ]
    reshape { shape: [ 1, 1000, 1, 1 ] }
    label_filename: "densenet_labels.txt"
  }
]
"""
SIMPLE = """
name: "simple"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


def write_densenet(folder: Path) -> None:
    """data_0: f32[1,3,224,224] -> fc6_1: f32[1,1000,1,1]: the first thousand elements."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["data_0", "flat"], ["row"]),
            helper.make_node("Slice", ["row", "zero", "thousand", "one"], ["first"]),
            helper.make_node("Reshape", ["first", "four"], ["fc6_1"]),
        ],
        "densenet",
        [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("fc6_1", TensorProto.FLOAT, [1, 1000, 1, 1])],
        [
            helper.make_tensor("flat", TensorProto.INT64, [2], [1, -1]),
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("thousand", TensorProto.INT64, [1], [1000]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("four", TensorProto.INT64, [4], [1, 1000, 1, 1]),
        ],
    )
    (folder / "1").mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(DENSENET)
    (folder / "densenet_labels.txt").write_text("".join(f"class {number}\n" for number in range(1000)))


def write_simple(folder: Path) -> None:
    """INPUT0, INPUT1: i32[?,16] -> OUTPUT0, OUTPUT1: their sum and their difference."""
    shape: list[str | int | None] = ["N", 16]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        "simple",
        [helper.make_tensor_value_info(f"INPUT{number}", TensorProto.INT32, shape) for number in (0, 1)],
        [helper.make_tensor_value_info(f"OUTPUT{number}", TensorProto.INT32, shape) for number in (0, 1)],
    )
    (folder / "1").mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(SIMPLE)


def infer_input(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], datatype: str) -> InferInput:
    given = InferInput(name, [*array.shape], datatype)
    given.set_data_from_numpy(array)
    return given


def test_the_repository_of_tritons_quick_start(serve: Serve, tmp_path: Path) -> None:
    write_densenet(tmp_path / "densenet_onnx")
    write_simple(tmp_path / "simple")
    served = serve(f"--repository={tmp_path}")
    with InferenceServerClient(served.address) as client:
        metadata = client.get_model_metadata("densenet_onnx", "1")
        assert [*metadata.inputs[0].shape] == [3, 224, 224]
        assert [*metadata.outputs[0].shape] == [1000]
        image = np.random.default_rng(1).standard_normal((3, 224, 224), np.float32)
        inputs = [infer_input("data_0", image, "FP32")]
        result = client.infer("densenet_onnx", inputs, "1")
        assert np.array_equal(result.as_numpy("fc6_1"), image.ravel()[:1000])
        top = client.infer("densenet_onnx", inputs, "", outputs=[InferRequestedOutput("fc6_1", class_count=3)])
        best = [each.decode().split(":")[1:] for each in top.as_numpy("fc6_1")]
        assert best == [[str(each), f"class {each}"] for each in np.argsort(-image.ravel()[:1000])[:3]]

        config = client.get_model_config("simple").config
        assert [each.count for each in config.instance_group] == [2]
        a, b = np.arange(32, dtype=np.int32).reshape(2, 16), np.ones((2, 16), np.int32)
        result = client.infer("simple", [infer_input("INPUT0", a, "INT32"), infer_input("INPUT1", b, "INT32")])
        assert np.array_equal(result.as_numpy("OUTPUT0"), a + b)
        assert np.array_equal(result.as_numpy("OUTPUT1"), a - b)
        many = np.zeros((9, 16), np.int32)
        with pytest.raises(InferenceServerException, match="INPUT0"):
            client.infer("simple", [infer_input("INPUT0", many, "INT32"), infer_input("INPUT1", many, "INT32")])
        with pytest.raises(InferenceServerException, match="has no version '2'"):
            client.infer("simple", [infer_input("INPUT0", a, "INT32"), infer_input("INPUT1", b, "INT32")], "2")


def write_resnet(folder: Path, factor: float) -> None:
    """data: f32[1,3,224,224] -> prob: f32[1,3], the mean of each channel times a factor."""
    data = op.parameter([1, 3, 224, 224], ov.Type.f32, "data")
    data.output(0).set_names({"data"})
    mean = op.multiply(op.reduce_mean(data, np.array([2, 3])), np.float32(factor))
    result = op.result(mean)
    result.output(0).set_names({"prob"})
    folder.mkdir(parents=True)
    ov.save_model(ov.Model([result], [data], "resnet"), folder / "resnet50.xml", compress_to_fp16=False)


def test_the_config_json_of_openvino_model_server(serve: Serve, tmp_path: Path) -> None:
    write_resnet(tmp_path / "models/resnet/1", 1)
    write_resnet(tmp_path / "models/resnet/2", 2)
    config = {
        "model_config_list": [
            {
                "config": {
                    "name": "resnet",
                    "base_path": "models/resnet",
                    "model_version_policy": {"all": {}},
                    "batch_size": "4",
                    "layout": "NHWC:NCHW",
                    "precision": "uint8:fp32",
                    "mean": "(1,2,3)",
                    "nireq": 2,
                    "plugin_config": {"PERFORMANCE_HINT": "LATENCY"},
                }
            }
        ]
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config, indent=2))
    served = serve(f"--config={file}")
    with InferenceServerClient(served.address) as client:
        metadata = client.get_model_metadata("resnet")
        assert [*metadata.versions] == ["1", "2"]
        assert (metadata.inputs[0].datatype, [*metadata.inputs[0].shape]) == ("UINT8", [4, 224, 224, 3])
        images = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), np.uint8)
        expected = images.astype(np.float64).mean((1, 2)) - [1, 2, 3]
        for version, factor in (("1", 1), ("2", 2), ("", 2)):
            result = client.infer("resnet", [infer_input("data", images, "UINT8")], version)
            assert np.allclose(result.as_numpy("prob"), factor * expected, atol=1e-3)
        with pytest.raises(InferenceServerException, match="has no version '3'"):
            client.infer("resnet", [infer_input("data", images, "UINT8")], "3")


def test_what_is_not_supported_stops_the_start_unless_it_is_lenient(serve: Serve, tmp_path: Path) -> None:
    write_resnet(tmp_path / "resnet/1", 1)
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"model_config_list": [{"config": {"name": "r", "base_path": "resnet", "allow_cache": False}}]})
    )
    served = serve(f"--config={file}", "--lenient")
    warning = (
        f"{file}:1: model_config_list[0].config.allow_cache: all compiled models are kept if there is a --cache-dir"
    )
    assert f"{warning}; this is ignored" in served.log
    with InferenceServerClient(served.address) as client:
        assert client.is_model_ready("r", "1")
