"""Whether a server and its models are ready, and what the client logs about its streams."""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from tests import models
from tests.e2e.serving import Serve, Served


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    path = models.scale(tmp_path)
    return serve(f"m={path}", f"other={path}", "--model-control", "--drain-delay=30")


async def test_readiness_follows_models_and_server(served: Served) -> None:
    async with hc.connect(served.address) as server:
        assert await server.is_ready()
        assert await server.model_is_ready("m")
        assert await server.model_is_ready("m", 1)
        assert not await server.model_is_ready("m", "2")
        assert not await server.model_is_ready("nope")
        assert not await server.model_is_ready("m" * 1000)
        await server.unload_model("m")
        assert not await server.model_is_ready("m")
        assert await server.model_is_ready("other", version=1)
        await server.load_model("m")
        assert await server.model_is_ready("m")
        # It still serves, and should get no more work.
        served.process.send_signal(signal.SIGTERM)
        while await server.is_ready():
            pass
        assert not await server.model_is_ready("m")
        assert (await server.infer("m", {"x": np.ones(1, np.float32)}))["y"].tolist() == [3]


def test_readiness_without_await(served: Served) -> None:
    with blocking.connect(served.address) as server:
        assert server.is_ready()
        assert server.model_is_ready("m", 1, timeout=30)
        assert not server.model_is_ready("nope")


async def test_a_server_that_is_not_there_is_not_ready() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with hc.connect(f"127.0.0.1:{unused.getsockname()[1]}") as server:
            assert not await server.is_ready(timeout=0.2)
            assert not await server.model_is_ready("m", timeout=0.2)


async def test_the_ends_of_streams_are_logged(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = serve(f"m={models.scale(tmp_path)}")
    caplog.set_level(logging.DEBUG, "headrace.client")

    def logged(level: int) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == level]

    async with hc.connect(served.address) as server:
        async with server.stream():
            pass
        assert logged(logging.DEBUG)[-1] == f"the stream to {served.address} is closed"
        assert logged(logging.WARNING) == []
        async with server.stream() as stream:
            ticket = await stream.submit("m", {"x": np.ones(1, np.float32)}, keep=["y"])
            await ticket
            served.process.kill()
            with suppress(hc.HeadraceError):
                while True:  # until it knows
                    await ticket.fetch("y")
        assert len(logged(logging.WARNING)) == 1
        assert logged(logging.WARNING)[0].startswith(f"the stream to {served.address} has ended: UNAVAILABLE: ")
    # grpc.aio may have an event left of an earlier test, whose loop is closed, and asyncio logs that.
    names = {record.name for record in caplog.records} - {"asyncio"}
    assert {name.split(".")[:2] == ["headrace", "client"] for name in names} == {True}
