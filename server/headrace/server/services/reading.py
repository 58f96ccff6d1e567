"""What the streams of both protocols have in common: a task that reads, while the handler writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from headrace.server.core.state import Stream
from headrace.server.services.api import Desk
from headrace.server.services.gate import STOPPING
from headrace.wire.errors import Unavailable


@asynccontextmanager
async def reading(desk: Desk, stream: Stream, read: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Inside, a task does `read`; whatever it fails with ends the stream. On the way out the stream is left.

    Raises what the reader failed with. Raises Unavailable when the stream has ended though its client has not
    half-closed: more may have come that nobody has read, and silence is no answer.
    """
    reader = asyncio.create_task(_read(desk, stream, read))
    failed: BaseException | None = None
    try:
        yield
    finally:
        desk.leave(stream)
        reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            failed = reader.exception()
    if failed is not None:
        raise failed
    if not stream.half_closed:
        raise Unavailable(STOPPING)


async def _read(desk: Desk, stream: Stream, read: Coroutine[None, None, None]) -> None:
    try:
        await read
    except BaseException:
        # Without a reader nobody would end the stream.
        desk.leave(stream)
        raise
