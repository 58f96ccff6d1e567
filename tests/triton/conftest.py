"""Servers for a client that is not ours.

These tests run in a process of their own (`pytest tests/triton`): protobuf knows each symbol of package `inference`
once per process, and here they are those of tritonclient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests import models
from tests.e2e.serving import F32, Serve, Served, serving
from tests.triton.messages import DATATYPES

BUILDS = (
    models.add_multiply,
    models.static_add_multiply,
    models.bounded_add_multiply,
    models.scalar,
    models.scale,
    models.counter,
    models.failing,
    models.wide,
    models.slow,
    models.strings,
)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with every model, as it is without options."""
    folder = tmp_path_factory.mktemp("triton")
    paths = [build(folder) for build in BUILDS]
    paths += [models.identity(folder, each.openvino) for each in DATATYPES.values()]
    with Served([*map(str, paths), F32], folder / "log") as server:
        yield server
        assert server.stop() == 0
        # Only runs of `failing` are incidents.
        assert server.log.count("[CPU] Reshape node") == server.log.count(" ERROR headrace.server"), server.log


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(path, "--model-control", ...)`: a running server, stopped after the test."""
    with serving(tmp_path) as serve:
        yield serve


@pytest.fixture
def client(served: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(served.address) as client:
        yield client


@pytest.fixture
def stub(served: Served) -> Iterator[GRPCInferenceServiceStub]:
    """What tritonclient's classes stand on, for requests that they would not write."""
    with grpc.insecure_channel(served.address) as channel:
        yield GRPCInferenceServiceStub(channel)
