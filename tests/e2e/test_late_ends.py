"""Runs that fail late or were stopped, on a server where nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve
from tests.stopwatch import Stopwatch

X = np.ones(1, np.float32)
GOOD, BAD = np.array([2, 8]), np.array([3, 5])


@pytest.fixture
async def server(serve: Serve, tmp_path: Path) -> AsyncIterator[hc.Server]:
    """Of a model whose bad runs fail after some tenths of a second, and which has one slot."""
    served = serve(f"late={models.late_failing(tmp_path)}", "--slots=1")
    async with hc.connect(served.address) as server:
        yield server


async def nothing_is_held(server: hc.Server) -> hc.ModelStatus:
    """Wait until the slot is free and no byte is charged; a second is enough on a machine that does nothing else."""
    for _ in range(500):
        status = await server.status()
        (model,) = status.models
        held = (model.slots_running, model.slots_stopping, model.slots_restoring, model.tickets_queued)
        if held == (0, 0, 0, 0) and status.queued_bytes == status.kept_bytes == 0:
            return model
        await asyncio.sleep(0.02)
    raise AssertionError(f"still held: {status}")


async def test_a_late_failure_ends_its_ticket_and_its_slot_goes_on(server: hc.Server, stopwatch: Stopwatch) -> None:
    async with server.stream() as stream:
        for _ in range(3):
            stopwatch.start()
            assert (await (await stream.submit("late", {"x": X, "shape": GOOD})))["y"].tolist() == [[1] * 8] * 2
            took = stopwatch.ran()
            bad = await stream.submit("late", {"x": X, "shape": BAD}, keep=["y"])
            stopwatch.start()
            with pytest.raises(hc.Internal):
                await bad
            # A poll comes each 20 ms; the machine may be busy.
            assert stopwatch.ran() < 2 * took + 1
        assert (await nothing_is_held(server)).restorations == 3


@pytest.mark.parametrize("shape", [GOOD, BAD], ids=["completes", "fails"])
@pytest.mark.parametrize("end", ["cancel", "deadline", "vanish"])
async def test_a_stopped_run_gives_its_slot_back(server: hc.Server, end: str, shape: np.ndarray) -> None:
    for _ in range(3):
        stream = server.stream()
        async with asyncio.timeout(30):
            await stream.__aenter__()
            timeout = 0.02 if end == "deadline" else None
            ticket = await stream.submit("late", {"x": X, "shape": shape}, keep=["y"], timeout=timeout)
            while not (await server.status()).models[0].slots_running:
                if end == "deadline":
                    break  # it may be over already
            if end == "cancel":
                ticket.cancel()
            if end == "vanish":
                await stream.__aexit__(RuntimeError, RuntimeError("gone"), None)
                with pytest.raises(hc.Cancelled):
                    await ticket
            else:
                with pytest.raises(hc.Cancelled if end == "cancel" else hc.DeadlineExceeded):
                    await ticket
                await stream.__aexit__(None, None, None)
        await nothing_is_held(server)
    async with server.stream() as stream:
        assert (await (await stream.submit("late", {"x": X, "shape": GOOD})))["y"].shape == (2, 8)
