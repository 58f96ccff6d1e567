"""Event loops on a completion queue, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.server.dispatcher.event_loop import PollingLoop
from headrace.server.transport.completion_queue.cython_layer import open_queue
from headrace.server.transport.completion_queue.server import CompletionQueueTransport


@contextmanager
def transport_and_loop(busy_poll: float = 0.0) -> Iterator[tuple[CompletionQueueTransport, PollingLoop]]:
    """A transport and its loop, which is closed afterwards."""
    transport = CompletionQueueTransport(*open_queue(), busy_poll)
    loop = transport.new_loop()
    try:
        yield transport, loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
