"""An event loop that polls the completion queue of a channel: gRPC wakes it without another thread between."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import grpc

from headrace.client.transport.completion_queue.channel import QueueChannel
from headrace.client.transport.completion_queue.selector import QueueSelector


class QueueLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, but for the channel that it has opened: one at a time."""

    time = staticmethod(monotonic)

    def __init__(self, is_suited: Callable[[], bool]) -> None:
        """`is_suited` is asked before the first channel is opened: then gRPC is used, and no fork may follow."""
        self._is_suited = is_suited
        self._queue_selector = QueueSelector()
        self._wake = self._queue_selector.wake
        self._channel: QueueChannel | None = None
        self._process = os.getpid()
        super().__init__(self._queue_selector)

    def open_channel(
        self, target: str, options: Iterable[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> QueueChannel | None:
        """A channel whose calls belong to this loop; None while there is another one that was not closed.

        Also None if the grpcio that is installed is not suited.
        """
        if self._queue_selector.attached or not self._is_suited():
            return None
        channel = self._channel = QueueChannel(target, options, credentials, self._queue_selector.detach)
        self._queue_selector.attach(channel.queue)
        return channel

    def idle_seconds(self) -> float:
        """How long it has had nothing to do so far."""
        return self._queue_selector.idle_seconds

    def close(self) -> None:
        """Also closes the channel. In a forked child that is the parent's."""
        if self._channel is not None and self._process == os.getpid() and not self.is_running():
            self._channel.close_now()
        super().close()

    def _write_to_self(self) -> None:
        # What a signal raises in the main thread may cut grpcio off where it holds a lock. A loop that runs there then
        # ends as well. Any other is woken through its pipe, for which one call in C is enough.
        if _in_other_main_thread(self) or not self._wake():
            super()._write_to_self()  # type: ignore[misc]  # asyncio's stubs leave it out


def _in_other_main_thread(loop: QueueLoop) -> bool:
    here = threading.get_ident()
    return here == threading.main_thread().ident and here != loop._thread_id  # type: ignore[attr-defined]
