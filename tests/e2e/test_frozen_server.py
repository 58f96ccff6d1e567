"""A server that is stopped (SIGSTOP) says nothing, and its connections stay open. Timeouts hold all the same."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as hb
from tests import models
from tests.e2e.serving import Serve, Served
from tests.stopwatch import Stopwatch

X = np.ones(4, np.float32)


@contextmanager
def frozen(served: Served) -> Iterator[None]:
    os.kill(served.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(served.process.pid, signal.SIGCONT)


async def test_every_timeout_holds_and_the_stream_works_on_when_the_server_does(
    serve: Serve, tmp_path: Path, stopwatch: Stopwatch
) -> None:
    served = serve(str(models.scale(tmp_path)), "--window=4")
    async with hc.connect(served.address) as server, server.stream() as stream:
        await (await stream.submit("scale", {"x": X}))
        with frozen(served):
            stopwatch.start()
            tickets = [await stream.submit("scale", {"x": X}, keep=["y"], timeout=0.5) for _ in range(4)]
            tickets.append(await stream.submit("scale", {"x": X}, timeout=0.1))
            for ticket in tickets:
                with pytest.raises(hc.DeadlineExceeded):
                    await ticket
            assert stopwatch.elapsed() > 0.5
            assert stopwatch.ran() < 1
            for call in (server.models, server.status, server.model_states):
                with pytest.raises(hc.DeadlineExceeded, match=r"within 0\.2 s"):
                    await call(timeout=0.2)
            with pytest.raises(hc.DeadlineExceeded):
                await server.infer("scale", {"x": X}, timeout=0.2)
        # The four places in the window are free again, and nothing that was kept is left.
        again = [await stream.submit("scale", {"x": X}, timeout=30) for _ in range(8)]
        for ticket in again:
            assert (await ticket)["y"].shape == X.shape
        status = await server.status()
        assert (status.tickets_in_flight, status.kept_bytes) == (0, 0)


async def test_another_address_is_used_while_a_server_is_frozen(
    serve: Serve, tmp_path: Path, stopwatch: Stopwatch
) -> None:
    model = str(models.scale(tmp_path))
    first, second = serve(model), serve(model)
    async with hc.connect(f"{first.address},{second.address}") as server:
        for _ in range(2):
            async with server.stream():
                pass  # both are connected
        with frozen(first):
            stopwatch.start()
            for _ in range(4):
                async with server.stream() as stream:
                    await (await stream.submit("scale", {"x": X}, timeout=30))
            assert stopwatch.ran() < 4


def test_the_blocking_client_is_not_held_up(serve: Serve, tmp_path: Path, stopwatch: Stopwatch) -> None:
    served = serve(str(models.scale(tmp_path)))
    with hb.connect(served.address) as server:
        with server.stream() as stream:
            stream.submit("scale", {"x": X}).result()
            with frozen(served):
                stopwatch.start()
                ticket = stream.submit("scale", {"x": X}, timeout=0.3)
                with pytest.raises(hc.DeadlineExceeded):
                    ticket.result()
                assert stopwatch.ran() < 1
                with pytest.raises(hc.DeadlineExceeded):
                    server.status(timeout=0.2)
                with pytest.raises(hc.Unavailable, match="no server answers"):
                    asyncio.run(enter(served.address))
        assert server.status().tickets_in_flight == 0


async def enter(address: str) -> None:
    async with hc.connect(address, connect_timeout=0.3) as server, server.stream():
        pytest.fail("it was opened")
