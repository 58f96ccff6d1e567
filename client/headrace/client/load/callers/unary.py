"""Unary calls, in either protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.load.callers.caller import Answer, Inputs
from headrace.client.load.callers.connection import Connection
from headrace.client.load.callers.departure import Departure
from headrace.client.load.callers.request_cache import RequestCache
from headrace.client.load.record.samples import UNKNOWN_TIMES, ServerTimes
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.transport.credentials import call_metadata
from headrace.client.transport.rpc_errors import cancelled_from_outside, status_of
from headrace.wire.errors import Code, HeadraceError


class UnaryCaller:
    """A connection with at most `window` calls in flight.

    `read` takes the bytes of an answer and returns the server's times; it raises HeadraceError if they are malformed.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        method: str,
        requests: RequestCache,
        read: Callable[[bytes], ServerTimes],
        timeout: float | None,
        window: int,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._read = read
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._connection = Connection(settings)
        self._call = self._connection.channel.unary_unary(method)

    async def __aenter__(self) -> UnaryCaller:
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        async with self._window:
            message = self._requests.get(inputs)
            times, code, why = UNKNOWN_TIMES, 0, ""
            try:
                times = self._read(await self._answer(message, departure))
            except grpc.aio.AioRpcError as error:
                status, why = status_of(error)
                code = status.value[0]
            except HeadraceError as error:
                code, why = int(error.code), error.message
            except asyncio.CancelledError:
                if cancelled_from_outside():
                    raise
                code, why = int(Code.CANCELLED), "the connection was closed"
            return Answer(departure.sent, time.perf_counter(), code, why, times)

    @property
    def outage_seconds(self) -> float:
        return self._connection.outage.seconds

    async def _answer(self, message: bytes, departure: Departure) -> bytes:
        """Raises HeadraceError, and AioRpcError."""
        begun = time.perf_counter()
        connected = await self._connection.connected(departure, self._timeout)
        now = time.perf_counter()
        left = None if self._timeout is None else max(begun + self._timeout - now, 0.0)
        if connected:
            departure.leave(now)
            return await self._call(message, timeout=left, metadata=call_metadata(self._settings))
        try:
            with departure.waiting_for("connection"):
                answer = await self._call(message, timeout=left, metadata=call_metadata(self._settings))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                departure.sent = now
            raise
        # There was a connection after all.
        departure.sent = now
        return answer
