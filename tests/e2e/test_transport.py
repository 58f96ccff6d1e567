"""Which transport a server runs, and that a grpcio which is not suited costs nothing but speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import headrace.client.blocking as blocking
from tests import models
from tests.e2e.serving import Serve, Served, run_server

SLOWER = "the transport is grpc.aio, which is slower"


def infer(served: Served) -> None:
    with blocking.connect(served.address) as server:
        assert server.infer("scale", {"x": np.ones(1, np.float32)})["y"].tolist() == [3]


@pytest.mark.parametrize("transport", ["completion-queue", "aio"])
def test_a_server_runs_the_transport_it_is_told_to(serve: Serve, tmp_path: Path, transport: str) -> None:
    for served in (
        serve(str(models.scale(tmp_path)), f"--transport={transport}"),
        serve(str(models.scale(tmp_path)), env={"HEADRACE_TRANSPORT": transport}),
    ):
        infer(served)
        assert SLOWER not in served.log
        assert served.stop() == 0
        assert " ERROR " not in served.log


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
