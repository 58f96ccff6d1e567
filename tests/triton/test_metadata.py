"""What clients ask before they infer: readiness, metadata, configuration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput
from tritonclient.grpc.model_config_pb2 import DataType

from tests.triton.messages import DATATYPES, given, refused

ONE = np.ones(1, np.float32)
EXTENSIONS: dict[str, Callable[[InferenceServerClient], object]] = {
    "classification": lambda client: client.infer(
        "scale", [given("x", ONE)], outputs=[InferRequestedOutput("y", class_count=1)]
    ),
    "model_configuration": lambda client: client.get_model_config("scale"),
    "model_repository": lambda client: client.get_model_repository_index(),
    "statistics": lambda client: client.get_inference_statistics(),
    "logging": lambda client: client.get_log_settings(),
    "parameters": lambda client: client.infer("scale", [given("x", ONE)], parameters={"colour": "blue"}),
    "schedule_policy": lambda client: client.infer("scale", [given("x", ONE)], priority=1, timeout=1_000_000),
    "sequence": lambda client: client.infer("scale", [given("x", ONE)], sequence_id=1, sequence_start=True),
}


def test_the_server_is_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale")
    assert client.is_model_ready("scale", "1")
    assert not client.is_model_ready("scale", "7")
    assert not client.is_model_ready("nowhere")


def test_every_extension_that_is_listed_works(client: InferenceServerClient) -> None:
    metadata = client.get_server_metadata()
    assert metadata.name == "headrace"
    assert metadata.version
    assert set(metadata.extensions) <= set(EXTENSIONS)
    assert len(set(metadata.extensions)) == len(metadata.extensions)
    for extension in metadata.extensions:
        EXTENSIONS[extension](client)
    assert "classification" in metadata.extensions


def test_a_model_has_metadata(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("add_multiply")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("add_multiply", ["1"], "openvino")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("x", "FP32", [-1, 16]),
        ("y", "FP32", [-1, 16]),
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == [
        ("sum", "FP32", [-1, 16]),
        ("product", "FP32", [-1, 16]),
    ]
    assert list(client.get_model_metadata("static_add_multiply", "1").inputs[0].shape) == [1, 16]
    assert list(client.get_model_metadata("scalar").inputs[0].shape) == []
    assert client.get_model_metadata("strings").inputs[0].datatype == "BYTES"
    for datatype, each in DATATYPES.items():
        assert client.get_model_metadata(each.model).inputs[0].datatype == datatype


def test_a_model_has_a_configuration(client: InferenceServerClient) -> None:
    config = client.get_model_config("add_multiply").config
    # Batches are the server's own affair: dims are those of a request, the first axis among them.
    assert (config.name, config.max_batch_size) == ("add_multiply", 0)
    for ports, names in ((config.input, ["x", "y"]), (config.output, ["sum", "product"])):
        assert [port.name for port in ports] == names
        assert all((DataType.Name(port.data_type), list(port.dims)) == ("TYPE_FP32", [-1, 16]) for port in ports)
    assert not config.model_transaction_policy.decoupled
    assert not config.HasField("sequence_batching")
    assert not config.HasField("ensemble_scheduling")
    assert list(client.get_model_config("scale", "1").config.input[0].dims) == [-1]
    for datatype, each in {**DATATYPES, "STRING": None}.items():
        name = each.model if each else "strings"
        port = client.get_model_config(name).config.input[0]
        assert DataType.Name(port.data_type) == f"TYPE_{datatype}"


@pytest.mark.parametrize("ask", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
def test_a_model_that_is_not_there_is_not_found(client: InferenceServerClient, ask: str) -> None:
    with refused("NOT_FOUND", "'nowhere'"):
        getattr(client, ask)("nowhere")
    with refused("NOT_FOUND", "'scale'", "7"):
        getattr(client, ask)("scale", "7")


def test_metadata_comes_as_json_too(client: InferenceServerClient) -> None:
    assert client.get_server_metadata(as_json=True)["name"] == "headrace"
    assert client.get_model_config("scale", as_json=True)["config"]["name"] == "scale"
    assert client.get_inference_statistics("scale", as_json=True)["model_stats"][0]["name"] == "scale"
