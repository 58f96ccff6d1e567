"""gRPC's completion queue without grpc.aio or threads: a client that costs less than what it measures.

grpc.aio takes 200 to 250 us of processor for a unary call and 125 for a message of a stream, as much as a server that
stands on it: with such a client two processors measure the client. This takes 155 and 55. It stands on the layer below
grpc's own synchronous client, which is private (`grpc/_channel.py` shows how it is used).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # private, so the stubs of grpc do not have it

from tests.bench.references.echo import OPTIONS

Done = Callable[[Any], None]
"""Called with the event of a batch of operations."""


class Channel:
    """A connection whose events are handled by whoever calls `turn`."""

    def __init__(self, target: str) -> None:
        self._channel = cygrpc.Channel(target.encode(), OPTIONS, None)
        self._pending = 0

    def call(self, method: str, *batches: tuple[tuple[Any, ...], Done], deadline: float | None = None) -> Any:
        """Start a call with batches of operations, each with what to do when it is done. `deadline`: a time of day."""
        self._pending += len(batches)
        return self._channel.integrated_call(0, method.encode(), None, deadline, (), None, batches, None, 0)

    def operate(self, call: Any, operation: Any, done: Done) -> None:
        """Start one more operation of a call."""
        self._pending += 1
        call.operate((operation,), done)

    def turn(self) -> None:
        """Wait for the next event and handle it."""
        event = self._channel.next_call_event()
        self._pending -= 1
        event.tag(event)

    def close(self) -> None:
        """Close it once every call has ended, which it would wait for without handling their events."""
        while self._pending:
            self.turn()
        self._channel.close(cygrpc.StatusCode.cancelled, "the client has ended")


def unary_operations(message: bytes) -> tuple[Any, ...]:
    """A whole unary call. Operations hold memory of their batch: each call needs its own."""
    return (
        cygrpc.SendInitialMetadataOperation(None, 0),
        send(message),
        cygrpc.SendCloseFromClientOperation(0),
        cygrpc.ReceiveInitialMetadataOperation(0),
        receive(),
        status(),
    )


def opening_operations() -> tuple[Any, ...]:
    return (cygrpc.SendInitialMetadataOperation(None, 0), cygrpc.ReceiveInitialMetadataOperation(0))


def send(message: bytes) -> Any:
    return cygrpc.SendMessageOperation(message, 0)


def receive() -> Any:
    return cygrpc.ReceiveMessageOperation(0)


def close() -> Any:
    return cygrpc.SendCloseFromClientOperation(0)


def status() -> Any:
    return cygrpc.ReceiveStatusOnClientOperation(0)
