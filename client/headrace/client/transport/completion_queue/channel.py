"""A channel on the completion queue, which looks like one of grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from headrace.client.transport.completion_queue.calls import QueueCall, StreamCall, UnaryCall
from headrace.client.transport.completion_queue.channel_queue import ChannelQueue
from headrace.client.transport.completion_queue.cython_layer import Metadata

_STATES = {state.value[0]: state for state in grpc.ChannelConnectivity}
_FIRST_LOOK, _LONGEST_LOOK = 0.001, 0.02
"""How often the state of a channel is looked at: gRPC's own way to wait for it needs a thread."""


class QueueChannel:
    """The channel whose queue the loop polls, until it is closed."""

    def __init__(
        self,
        target: str,
        options: Iterable[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        on_close: Callable[[ChannelQueue], None],
    ) -> None:
        """`on_close` is called with the queue when nobody is to wait for it any more."""
        self.queue = ChannelQueue(target, options, credentials)
        self.calls: set[QueueCall] = set()
        """Those that have not ended."""
        self._on_close = on_close

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if self.queue.closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        return _STATES[self.queue.state(try_to_connect=try_to_connect)]

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        """Raises UsageError on a closed channel."""
        pause = _FIRST_LOOK
        while True:
            self._check_open()
            if self.get_state() is not last:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def unary_unary(self, method: str) -> Callable[..., Awaitable[bytes]]:
        return partial(self._unary, method)

    def stream_stream(self, method: str) -> Callable[..., StreamCall]:
        return partial(self._stream, method)

    async def close(self) -> None:
        """Cancel all calls, and close the connection."""
        self.close_now()

    def close_now(self) -> None:
        if not self.queue.closed:
            for call in [*self.calls]:
                call.cancel()
            self._on_close(self.queue)
            self.queue.close()

    async def _unary(
        self, method: str, request: bytes, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> bytes:
        self._check_open()
        return await UnaryCall(self, method, request, timeout, metadata).answer()

    def _stream(self, method: str, *, metadata: Metadata = ()) -> StreamCall:
        self._check_open()
        return StreamCall(self, method, metadata)

    def _check_open(self) -> None:
        if self.queue.closed:
            raise grpc.aio.UsageError("Channel is closed.")

    def __repr__(self) -> str:
        return f"<QueueChannel: {len(self.calls)} calls, {self.queue!r}>"
