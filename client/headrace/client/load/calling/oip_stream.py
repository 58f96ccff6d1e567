"""The Open Inference Protocol, a stream: `ModelStreamInfer`, which is Triton's."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType

import grpc.aio

from headrace.client.aio.server import CONNECT_TIMEOUT
from headrace.client.load.calling import Answer, Inputs, Request
from headrace.client.load.calling.oip_exchange import Asked, OipExchange
from headrace.client.load.calling.oip_requests import oip_path, with_id, writer
from headrace.client.load.calling.written import Written
from headrace.client.load.samples import UNTOLD
from headrace.client.transport.channel import open_channel, wait_connected
from headrace.wire.errors import Code


def callers(target: str, request: Request, streams: int, window: int, max_message_bytes: int) -> Sequence[OipStream]:
    written = writer(request)
    return [OipStream(target, request, written, window, max_message_bytes) for _ in range(streams)]


class OipStream:
    """A stream on a connection of its own. When it has ended, the next call opens another."""

    def __init__(self, target: str, request: Request, written: Written, window: int, max_message_bytes: int) -> None:
        self._target = target
        self._timeout = request.timeout
        self._written = written
        self._room = asyncio.Semaphore(window)
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
            await self._exchange.leave()
        await self._channel.close()

    async def call(self, inputs: Inputs) -> Answer:
        async with self._room:
            if self._exchange is None or self._exchange.ended:
                self._exchange = OipExchange(self._start(), self._target)
            request_id = str(next(self._ids))
            asked = self._exchange.ask(request_id, with_id(request_id, self._written.of(inputs)))
            try:
                code, why = await self._end_of(asked)
            finally:
                self._exchange.forget(asked)
            ended = time.perf_counter()
            return Answer(asked.sent or ended, ended, code, why, UNTOLD)

    async def _end_of(self, asked: Asked) -> tuple[int, str]:
        if self._timeout is None:
            return await asked.end
        # Not every server keeps to a timeout, and none that does says by a code what has ended a request of a stream.
        try:
            async with asyncio.timeout(self._timeout):
                return await asked.end
        except TimeoutError:
            return int(Code.DEADLINE_EXCEEDED), f"no answer within {self._timeout:g} s"
