"""What the streams of both protocols share: a task that reads, while the handler writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from headrace.server.services.api import StreamHandle
from headrace.server.services.gate import STOPPING
from headrace.wire.errors import Unavailable


@asynccontextmanager
async def reading(handle: StreamHandle, read: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `read` in a task while the block runs; its failure ends the stream. Closes the stream on the way out.

    Raises what the reader failed with. Raises Unavailable when the stream has ended although its client has not
    half-closed: the client may have sent more that was never read, and must not take silence for an answer.
    """
    reader = asyncio.create_task(_read(handle, read))
    failed: BaseException | None = None
    try:
        yield
    finally:
        handle.close()
        reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            failed = reader.exception()
    if failed is not None:
        raise failed
    if not handle.half_closed:
        raise Unavailable(STOPPING)


async def _read(handle: StreamHandle, read: Coroutine[None, None, None]) -> None:
    try:
        await read
    except BaseException:
        # Without a reader nothing else would end the stream.
        handle.close()
        raise
