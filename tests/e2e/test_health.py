"""Health follows the models and the end of the server; reflection describes the services."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.operating import NOT_SERVING, SERVING, UNKNOWN, Operator, refused
from tests.e2e.serving import Serve, Served
from tests.e2e.stubs import Command, Event, StubStream

pytestmark = pytest.mark.transport

SERVICES = ("headrace.v1.Inference", "inference.GRPCInferenceService")


@pytest.fixture
def scale(serve: Serve, tmp_path: Path) -> Served:
    """A server with two models that takes control."""
    path = models.scale(tmp_path)
    return serve(f"m={path}", f"other={path}", "--model-control")


@pytest.fixture
def operator(scale: Served) -> Iterator[Operator]:
    operator = Operator(scale.address)
    with operator.channel:
        yield operator


def test_health_follows_the_models(operator: Operator) -> None:
    for service in ("", *SERVICES, "m", "other"):
        assert operator.check(service) == SERVING
    with refused(grpc.StatusCode.NOT_FOUND, "'nope'"):
        operator.check("nope")
    whole, model, unknown = (operator.watch(service) for service in ("", "m", "nope"))
    with_company = operator.watch("m")
    assert [next(watch) for watch in (whole, model, unknown, with_company)] == [SERVING, SERVING, UNKNOWN, SERVING]
    # One of two watches of the same model ends, the other goes on.
    with_company.call.cancel()
    operator.unload("m")
    assert next(model) == NOT_SERVING
    assert (operator.check("m"), operator.check("other"), operator.check("")) == (NOT_SERVING, SERVING, SERVING)
    operator.load("m")
    assert next(model) == SERVING
    for watch in (whole, model, unknown):
        watch.call.cancel()


def test_nothing_is_serving_while_the_server_drains(operator: Operator, scale: Served) -> None:
    names = ("", "m", *SERVICES)
    watches = [operator.watch(service) for service in names]
    assert [next(watch) for watch in watches] == [SERVING] * len(names)
    with StubStream(scale.address) as stream:
        one = pb.Inline(datatype=pb.FP32, shape=[1])
        call = pb.Call(model="m", inputs=[pb.Input(name="x", inline=one)], keep=["y"])
        stream.send(
            Command(kind=Command.DEFINE, call=1, define=call), Command(tag=1, call=1, tensors=1), tensors=[b"\0" * 4]
        )
        assert stream.receive()[0].kind == Event.DONE
        scale.process.send_signal(signal.SIGTERM)
        assert [next(watch) for watch in watches] == [NOT_SERVING] * len(names)
        # The stream has a kept output, and lives on.
        assert stream.receive()[0].kind == Event.DRAINING
        stream.send(Command(kind=Command.FETCH, tag=2, fetch=pb.Fetch(source=1, output="y")))
        assert stream.receive()[0].kind == Event.FETCHED
        stream.send(Command(kind=Command.RELEASE, tag=1))
        assert stream.ends_with() is grpc.StatusCode.UNAVAILABLE
    # A client that watches does not hold up the end, and does not take it for one that is well.
    for watch in watches:
        with refused(grpc.StatusCode.UNAVAILABLE):
            next(watch)
    assert scale.process.wait(30) == 0


def test_reflection_lists_and_describes_every_service(operator: Operator) -> None:
    request = reflection_pb2.ServerReflectionRequest
    names = (*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
    asked = [request(list_services=""), *(request(file_containing_symbol=name) for name in names)]
    listed, *described = ServerReflectionStub(operator.channel).ServerReflectionInfo(iter(asked), timeout=30)
    assert {service.name for service in listed.list_services_response.service} == set(names)
    methods: dict[str, set[str]] = {}
    for response in described:
        for file in map(FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto):
            for service in file.service:
                methods[f"{file.package}.{service.name}"] = {method.name for method in service.method}
    assert methods.keys() == set(names)
    assert {"Stream", "Infer", "ListModels"} <= methods[SERVICES[0]]
    assert {"ModelInfer", "ModelStreamInfer", "RepositoryModelLoad"} <= methods[SERVICES[1]]
