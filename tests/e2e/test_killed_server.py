"""A server that is killed: its clients notice, and may try again elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve
from tests.e2e.stream_errors import outcome, refusal


async def test_a_server_that_is_killed_while_it_is_written_to_is_noticed(serve: Serve, tmp_path: Path) -> None:
    """Whether a write or a read notices it first: the connection is lost, and the same may succeed later."""
    large = np.zeros(1 << 20, np.float32)
    for _ in range(3):
        served = serve(str(models.scale(tmp_path)))
        async with hc.connect(served.address) as server, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(server.stream()) for _ in range(8)]
            tickets = [await stream.submit("scale", {"x": large}, outputs=[]) for stream in streams for _ in range(8)]
            served.process.kill()
            errors = [error for ticket in tickets if (error := await outcome(ticket)) is not None]
            errors += [await refusal(stream) for stream in streams]
        assert all(isinstance(error, hc.Unavailable) and error.retryable for error in errors), errors
