"""The requests of grpc_health_probe and grpcurl, which know nothing about the server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.e2e.serving import Served

SERVICE = "inference.GRPCInferenceService"


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


@pytest.mark.parametrize("service", ["", SERVICE, "scale"])
def test_health_is_reported(channel: grpc.Channel, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_what_is_not_there_is_unknown(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="nowhere")
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "headrace.v1.Inference", "grpc.health.v1.Health"} <= set(database.get_services())
    file = database.FindFileContainingSymbol(SERVICE)
    methods = {method.name for service in file.service for method in service.method}
    assert {"ModelInfer", "ModelStreamInfer", "ModelMetadata", "ServerLive"} <= methods
    assert database.FindFileContainingSymbol("inference.ModelConfig").package == "inference"
