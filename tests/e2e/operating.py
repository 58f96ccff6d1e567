"""A client made of the generated stubs alone that loads and unloads models, and asks for their health."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Operator:
    """What a client does that loads and unloads models."""

    def __init__(self, address: str) -> None:
        # Channels to one address share a connection otherwise.
        self.channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.stub = GRPCInferenceServiceStub(self.channel)
        self.health = HealthStub(self.channel)

    def load(self, name: str, repository: str = "") -> None:
        request = pb.RepositoryModelLoadRequest(repository_name=repository, model_name=name)
        self.stub.RepositoryModelLoad(request, timeout=30)

    def unload(self, name: str, repository: str = "") -> None:
        request = pb.RepositoryModelUnloadRequest(repository_name=repository, model_name=name)
        request.parameters["unload_dependents"].bool_param = True
        self.stub.RepositoryModelUnload(request, timeout=30)

    def index(self, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
        found = self.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready), timeout=30).models
        return [(model.name, model.version, model.state, model.reason) for model in found]

    def log(self, **settings: bool | int | str) -> dict[str, bool | int | str]:
        """Change settings, then tell all."""
        request = pb.LogSettingsRequest()
        for name, value in settings.items():
            kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(request.settings[name], kind, value)
        shown = self.stub.LogSettings(request, timeout=30).settings
        return {name: getattr(value, str(value.WhichOneof("parameter_choice"))) for name, value in shown.items()}

    def check(self, service: str) -> int:
        status: int = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status
        return status

    def watch(self, service: str) -> Watch:
        return Watch(self.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30))


class Watch:
    """`next` is the next status, whenever it comes."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        status: int = next(self.call).status
        return status


def refused(code: grpc.StatusCode, *named: str) -> pytest.RaisesExc[grpc.RpcError]:
    """An rpc that ends with a code, and a message that names these."""
    return pytest.RaisesExc(
        grpc.RpcError,
        check=lambda error: error.code() is code and all(name in str(error.details()) for name in named),
    )
