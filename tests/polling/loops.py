"""The event loops that wait for a completion queue, for tests: the server's, and the client's with a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from headrace.client.transport.event_loops import queue_loop
from tests.server.transport.completion_queue.loops import transport_and_loop

NewLoop = Callable[[], AbstractContextManager[asyncio.AbstractEventLoop]]


@contextmanager
def _of_server(busy_poll: float) -> Iterator[asyncio.AbstractEventLoop]:
    with transport_and_loop(busy_poll) as (_, loop):
        yield loop


@contextmanager
def of_client() -> Iterator[asyncio.AbstractEventLoop]:
    """It waits for the queue of a channel to nobody."""
    loop = queue_loop()
    assert loop is not None
    assert loop.open_channel("unix:/nobody", (), None) is not None
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


LOOPS: dict[str, NewLoop] = {
    "server, sleeping": partial(_of_server, 0.0),
    "server, polling": partial(_of_server, 200e-6),
    "client": of_client,
}
