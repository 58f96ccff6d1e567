"""Which transport a server runs, and that a grpcio which is not suited costs nothing but speed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client.blocking as blocking
from headrace.server.settings import Settings
from tests import models
from tests.e2e.serving import Serve, Served, run_server

COMPLETION_QUEUE = f"the completion queue of grpcio {grpc.__version__}"
SLOWER = "the transport is grpc.aio, which is slower"


def infer(served: Served) -> None:
    with blocking.connect(served.address) as server:
        assert server.infer("scale", {"x": np.ones(1, np.float32)})["y"].tolist() == [3]


def transport_of(served: Served) -> str:
    """As the server's log names it."""
    (name,) = re.findall(r"INFO headrace\.server\.transport\S* the transport is (.*)", served.log)
    return str(name)


@pytest.mark.parametrize(
    ("transport", "name"),
    [("auto", COMPLETION_QUEUE), ("completion-queue", COMPLETION_QUEUE), ("aio", "grpc.aio")],
)
def test_a_server_runs_the_transport_it_is_told_to(serve: Serve, tmp_path: Path, transport: str, name: str) -> None:
    for served in (
        serve(str(models.scale(tmp_path)), f"--transport={transport}"),
        serve(str(models.scale(tmp_path)), env={"HEADRACE_TRANSPORT": transport}),
    ):
        infer(served)
        assert transport_of(served) == name
        assert served.stop() == 0
        assert " ERROR " not in served.log
        assert " WARNING " not in served.log


def test_it_is_the_completion_queue_unless_it_is_told() -> None:
    assert Settings().transport == "auto"


@pytest.mark.transport
def test_the_tests_run_the_transport_they_are_told_to(serve: Serve, tmp_path: Path) -> None:
    """What is marked `transport` runs once more in `make test`, on grpc.aio."""
    told = os.environ.get("HEADRACE_TRANSPORT", "auto")
    served = serve(str(models.scale(tmp_path)))
    assert transport_of(served) == {"aio": "grpc.aio"}.get(told, COMPLETION_QUEUE)


@pytest.fixture
def other_grpcio(tmp_path: Path) -> Iterator[Served]:
    arguments = [str(models.scale(tmp_path)), "--transport=auto"]
    with Served(arguments, tmp_path / "log", module="tests.e2e.other_grpcio") as served:
        yield served


def test_another_grpcio_is_used_through_grpc_aio_with_one_warning(other_grpcio: Served) -> None:
    infer(other_grpcio)
    (warning,) = re.findall(r"WARNING headrace\.server\.transport\S* (.*)", other_grpcio.log)
    assert warning.startswith(SLOWER)
    assert "ReceiveCloseOnServerOperation" in warning
    assert other_grpcio.stop() == 0


def test_another_grpcio_is_refused_if_the_completion_queue_is_asked_for(tmp_path: Path) -> None:
    ended = run_server(str(models.scale(tmp_path)), "--transport=completion-queue", module="tests.e2e.other_grpcio")
    assert ended.returncode == 2
    assert re.fullmatch(
        r"headrace-server: --transport: the completion queue of grpcio \S+ cannot be used: .*"
        r"ReceiveCloseOnServerOperation.*\n",
        ended.stderr,
    )
