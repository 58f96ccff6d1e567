"""Inferences that wait for the same model share runs, which does not show in their results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from tests import models
from tests.e2e.serving import Served

COUNT = 64
ROWS = np.random.default_rng(5).standard_normal((COUNT, 1, 16), np.float32)


async def infer_all(address: str) -> tuple[list[bytes], int]:
    """The sums of every row with 2, and how many different runs they came from, as far as their times tell."""
    two = np.full((1, 16), 2, np.float32)
    async with hc.connect(address) as server, server.stream() as stream:
        await (await stream.submit("am", {"x": ROWS[0], "y": two}))
        tickets = [await stream.submit("am", {"x": row, "y": two}, outputs=["sum"]) for row in ROWS]
        sums = [(await ticket)["sum"].tobytes() for ticket in tickets]
        return sums, len({(ticket.queued, ticket.running) for ticket in tickets})


@pytest.mark.parametrize(
    ("options", "says", "most_runs"),
    [
        ([], "up to 64 rows", COUNT // 4),
        (["--batch=4"], "up to 4 rows", COUNT // 2),
        (["--batch=off"], None, COUNT),
    ],
)
async def test_tickets_share_runs(tmp_path: Path, options: Sequence[str], says: str | None, most_runs: int) -> None:
    served = [f"am={models.add_multiply(tmp_path)}", "--property=INFERENCE_PRECISION_HINT=f32", *options]
    with Served(served, tmp_path / "log") as server:
        sums, runs = await infer_all(server.address)
        log = server.wait_until_logged(says or "loaded")
        assert ("batches of" in log) == (says is not None)
    assert sums == [(row + np.float32(2)).tobytes() for row in ROWS]
    assert runs <= most_runs
    assert says is not None or runs > COUNT // 2


@pytest.mark.parametrize("value", ["1", "65", "many", "-2"])
def test_a_batch_size_that_cannot_be_is_refused(value: str) -> None:
    command = [sys.executable, "-m", "headrace.server", f"--batch={value}", "model.xml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "from 2 to 64" in " ".join((ended.stdout + ended.stderr).replace("│", " ").split())
