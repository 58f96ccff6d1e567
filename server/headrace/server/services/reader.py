"""A task that reads the messages of a stream while its handler writes. The streams of both protocols use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from headrace.server.services.api import StreamHandle
from headrace.server.services.gate import STOPPING
from headrace.wire.errors import Unavailable


@asynccontextmanager
async def reader_task(handle: StreamHandle, read: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `read` in a task while the block runs; if it fails, the stream ends. Closes the stream at the end.

    Raises the reader's error. Raises Unavailable when the stream has ended although its client has not half-closed: the
    client may have sent more that was never read, and must not mistake silence for an answer.
    """
    reader = asyncio.create_task(_read(handle, read))
    error: BaseException | None = None
    try:
        yield
    finally:
        handle.close()
        reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            error = reader.exception()
    if error is not None:
        raise error
    if not handle.half_closed:
        raise Unavailable(STOPPING)


async def _read(handle: StreamHandle, read: Coroutine[None, None, None]) -> None:
    try:
        await read
    except BaseException:
        # Without a reader nothing else would end the stream.
        handle.close()
        raise
