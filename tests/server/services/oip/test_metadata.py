"""The metadata of the server and its models."""

from __future__ import annotations

import pytest

from headrace.oip import model_config_pb2 as config_pb
from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine
from headrace.server.services.health import Health
from headrace.server.services.oip.metadata import MetadataRpcs
from headrace.server.version import VERSION
from headrace.wire.dtypes import Datatype

INPUTS = (
    Port(0, ("image", "x:0"), Datatype.BF16, (Dimension(0, -1), Dimension(3, 3), Dimension(1, 640))),
    Port(1, ("words",), Datatype.BYTES, None),
)
OUTPUTS = (
    Port(0, ("scores",), Datatype.FP32, (Dimension(1, 1), Dimension(1000, 1000))),
    Port(1, ("best",), Datatype.INT64, ()),
)


def spec(name: str, version: str) -> ModelSpec:
    return ModelSpec(
        name,
        version,
        INPUTS,
        OUTPUTS,
        has_variables=False,
        slots=3,
        batch=8,
        direct_reason="it has strings",
        batch_reason="up to 8 rows",
        streams=2,
        threads=4,
        weight=3,
        priority=1,
        weights_bytes=1000,
        memory_bytes=5000,
    )


@pytest.fixture
async def core() -> Core:
    core = Core(Limits())
    for name, version in [("net", "10"), ("net", "9"), ("other", "1")]:
        core.models.add(spec(name, version))
    return core


@pytest.fixture
async def rpcs(core: Core) -> MetadataRpcs:
    health = Health(("",))
    health.begin()
    return MetadataRpcs(Dispatcher(core, FakeEngine()), ("classification", "statistics"), health)


@pytest.fixture
async def starting(core: Core) -> MetadataRpcs:
    """Of a server that still loads models."""
    return MetadataRpcs(Dispatcher(core, FakeEngine()), (), Health(("",)))


async def test_a_model_is_ready_before_the_server_is(starting: MetadataRpcs) -> None:
    assert not (await starting.server_ready(pb.ServerReadyRequest())).ready
    assert (await starting.model_ready(pb.ModelReadyRequest(name="net"))).ready


async def test_server_metadata_has_name_version_and_extensions(rpcs: MetadataRpcs) -> None:
    response = await rpcs.server_metadata(pb.ServerMetadataRequest())
    assert response == pb.ServerMetadataResponse(
        name="headrace", version=VERSION, extensions=["classification", "statistics"]
    )


async def test_a_draining_server_is_live_but_not_ready(rpcs: MetadataRpcs) -> None:
    assert (await rpcs.server_live(pb.ServerLiveRequest())).live
    assert (await rpcs.server_ready(pb.ServerReadyRequest())).ready
    assert isinstance(rpcs._readiness, Health)
    rpcs._readiness.withdraw()
    assert (await rpcs.server_live(pb.ServerLiveRequest())).live
    assert not (await rpcs.server_ready(pb.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("net", "", True), ("net", "9", True), ("net", "11", False), ("nothing", "", False), ("", "", False)],
)
async def test_a_loaded_model_is_ready(rpcs: MetadataRpcs, name: str, version: str, ready: bool) -> None:
    request = pb.ModelReadyRequest(name=name, version=version)
    assert await rpcs.model_ready(request) == pb.ModelReadyResponse(ready=ready)


async def test_a_withheld_model_is_not_ready(core: Core, rpcs: MetadataRpcs) -> None:
    core.models.withhold("late", "is being loaded")
    assert not (await rpcs.model_ready(pb.ModelReadyRequest(name="late"))).ready


@pytest.mark.parametrize("version", ["", "9"])
async def test_model_metadata_describes_inputs_and_outputs(rpcs: MetadataRpcs, version: str) -> None:
    tensor = pb.ModelMetadataResponse.TensorMetadata
    response = await rpcs.model_metadata(pb.ModelMetadataRequest(name="net", version=version))
    assert response == pb.ModelMetadataResponse(
        name="net",
        versions=["9", "10"],
        platform="openvino",
        inputs=[
            tensor(name="image", datatype="BF16", shape=[-1, 3, -1]),
            tensor(name="words", datatype="BYTES", shape=[-1]),
        ],
        outputs=[
            tensor(name="scores", datatype="FP32", shape=[1, 1000]),
            tensor(name="best", datatype="INT64", shape=[]),
        ],
    )


async def test_model_config_describes_inputs_outputs_and_instances(rpcs: MetadataRpcs) -> None:
    response = await rpcs.model_config(pb.ModelConfigRequest(name="net"))
    config = config_pb.ModelConfig(
        name="net",
        platform="openvino",
        backend="openvino",
        max_batch_size=0,
        input=[
            config_pb.ModelInput(name="image", data_type=config_pb.TYPE_BF16, dims=[-1, 3, -1]),
            config_pb.ModelInput(name="words", data_type=config_pb.TYPE_STRING, dims=[-1]),
        ],
        output=[
            config_pb.ModelOutput(name="scores", data_type=config_pb.TYPE_FP32, dims=[1, 1000]),
            config_pb.ModelOutput(name="best", data_type=config_pb.TYPE_INT64, dims=[]),
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(name="net_0", count=3, kind=config_pb.ModelInstanceGroup.KIND_CPU)
        ],
        model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=False),
        parameters={
            "direct": config_pb.ModelParameter(string_value="false"),
            "direct_reason": config_pb.ModelParameter(string_value="it has strings"),
            "batch": config_pb.ModelParameter(string_value="8"),
            "batch_reason": config_pb.ModelParameter(string_value="up to 8 rows"),
            "weight": config_pb.ModelParameter(string_value="3"),
            "priority": config_pb.ModelParameter(string_value="1"),
            "streams": config_pb.ModelParameter(string_value="2"),
            "threads": config_pb.ModelParameter(string_value="4"),
            "weights_bytes": config_pb.ModelParameter(string_value="1000"),
            "memory_bytes": config_pb.ModelParameter(string_value="5000"),
        },
    )
    assert response == pb.ModelConfigResponse(config=config)


async def test_each_datatype_has_tritons_number(core: Core, rpcs: MetadataRpcs) -> None:
    ports = tuple(Port(index, (each.name,), each, ()) for index, each in enumerate(Datatype))
    core.models.add(ModelSpec("all", "1", ports, (), has_variables=False, slots=1))
    response = await rpcs.model_config(pb.ModelConfigRequest(name="all"))
    numbers = {each.name: each.data_type for each in response.config.input}
    assert numbers == {
        "BOOL": 1,
        "UINT8": 2,
        "UINT16": 3,
        "UINT32": 4,
        "UINT64": 5,
        "INT8": 6,
        "INT16": 7,
        "INT32": 8,
        "INT64": 9,
        "FP16": 10,
        "FP32": 11,
        "FP64": 12,
        "BYTES": 13,
        "BF16": 14,
    }
