"""The Open Inference Protocol, stream: Triton's `ModelStreamInfer`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType

import grpc.aio

from headrace.client.aio.server import CONNECT_TIMEOUT
from headrace.client.load.callers.caller import Answer, Inputs, Request
from headrace.client.load.callers.oip_exchange import OipExchange, PendingRequest
from headrace.client.load.callers.oip_requests import oip_path, request_cache, with_id
from headrace.client.load.callers.request_cache import RequestCache
from headrace.client.load.record.samples import UNKNOWN_TIMES
from headrace.client.transport.channel import open_channel, wait_connected
from headrace.wire.errors import Code


def callers(target: str, request: Request, streams: int, window: int, max_message_bytes: int) -> Sequence[OipStream]:
    requests = request_cache(request)
    return [OipStream(target, request, requests, window, max_message_bytes) for _ in range(streams)]


class OipStream:
    """A stream on a connection of its own. After it has ended, the next call opens a new one."""

    def __init__(
        self, target: str, request: Request, requests: RequestCache, window: int, max_message_bytes: int
    ) -> None:
        self._target = target
        self._timeout = request.timeout
        self._requests = requests
        self._window = asyncio.Semaphore(window)
        self._ids = itertools.count(1)
        self._channel = open_channel(target, max_message_bytes)
        self._start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(
            oip_path("ModelStreamInfer")
        )
        self._exchange: OipExchange | None = None

    async def __aenter__(self) -> OipStream:
        await wait_connected(self._channel, self._target, CONNECT_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exchange is not None:
            await self._exchange.close()
        await self._channel.close()

    async def call(self, inputs: Inputs) -> Answer:
        async with self._window:
            if self._exchange is None or self._exchange.ended:
                self._exchange = OipExchange(self._start(), self._target)
            request_id = str(next(self._ids))
            pending = self._exchange.send(request_id, with_id(request_id, self._requests.get(inputs)))
            try:
                code, why = await self._wait_for(pending)
            finally:
                self._exchange.abandon(pending)
            ended = time.perf_counter()
            return Answer(pending.sent or ended, ended, code, why, UNKNOWN_TIMES)

    async def _wait_for(self, pending: PendingRequest) -> tuple[int, str]:
        if self._timeout is None:
            return await pending.end
        # Not every server enforces a timeout, and an error within a stream has no code to tell a timeout by.
        try:
            async with asyncio.timeout(self._timeout):
                return await pending.end
        except TimeoutError:
            return int(Code.DEADLINE_EXCEEDED), f"no answer within {self._timeout:g} s"
