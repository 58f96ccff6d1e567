"""Unary calls, in either protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.aio.server import CONNECT_TIMEOUT
from headrace.client.load.callers.caller import Answer, Inputs
from headrace.client.load.callers.request_cache import RequestCache
from headrace.client.load.record.samples import UNKNOWN_TIMES, ServerTimes
from headrace.client.transport.channel import open_channel, wait_connected
from headrace.client.transport.rpc_errors import cancelled_from_outside, status_of
from headrace.wire.errors import Code, HeadraceError


class UnaryCaller:
    """A connection with at most `window` calls in flight.

    `read` takes the bytes of an answer and returns the server's times; it raises HeadraceError if they are malformed.
    """

    def __init__(
        self,
        target: str,
        method: str,
        requests: RequestCache,
        read: Callable[[bytes], ServerTimes],
        timeout: float | None,
        window: int,
        max_message_bytes: int,
    ) -> None:
        self._target = target
        self._requests = requests
        self._read = read
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._channel = open_channel(target, max_message_bytes)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)

    async def __aenter__(self) -> UnaryCaller:
        await wait_connected(self._channel, self._target, CONNECT_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def call(self, inputs: Inputs) -> Answer:
        async with self._window:
            message = self._requests.get(inputs)
            sent = time.perf_counter()
            times, code, why = UNKNOWN_TIMES, 0, ""
            try:
                times = self._read(await self._call(message, timeout=self._timeout))
            except grpc.aio.AioRpcError as error:
                status, why = status_of(error)
                code = status.value[0]
            except HeadraceError as error:
                code, why = int(error.code), error.message
            except asyncio.CancelledError:
                if cancelled_from_outside():
                    raise
                code, why = int(Code.CANCELLED), "the connection was closed"
            return Answer(sent, time.perf_counter(), code, why, times)
