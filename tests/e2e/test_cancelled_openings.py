"""Opening a stream may be cancelled at any moment, and leaves nothing on the server."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import headrace.client as hc
from tests import models
from tests.e2e.serving import Serve

TRIES = 1000


async def test_a_cancelled_opening_leaks_no_stream(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)))
    chance = random.Random(17)
    async with hc.connect(served.address) as server:
        async with server.stream():
            pass
        assert (await server.status()).streams == 0
        cancelled = 0
        for _ in range(TRIES):
            opening = asyncio.ensure_future(server.stream().__aenter__())
            # Between "nothing has happened" and "just opened".
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            await asyncio.sleep(chance.choice((0, chance.uniform(0, 0.003))))
            opening.cancel()
            try:
                stream = await opening
            except asyncio.CancelledError:
                cancelled += 1
            else:
                await stream.__aexit__(None, None, None)
        assert cancelled > TRIES / 4
        assert cancelled < TRIES
        for _ in range(500):  # the last cancellations are under way
            if (await server.status()).streams == 0:
                break
            await asyncio.sleep(0.01)
        assert (await server.status()).streams == 0
        assert "0 streams" in repr(server._connection._channels)
