"""The Open Inference Protocol, stream: Triton's `ModelStreamInfer`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from types import TracebackType

from headrace.client.load.callers.caller import Answer, Inputs, Request
from headrace.client.load.callers.connection import Connection
from headrace.client.load.callers.departure import Departure
from headrace.client.load.callers.oip_exchange import OipExchange, PendingRequest
from headrace.client.load.callers.oip_requests import oip_path, request_cache, with_id
from headrace.client.load.callers.request_cache import RequestCache
from headrace.client.load.record.samples import UNKNOWN_TIMES
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.transport.credentials import call_metadata
from headrace.wire.errors import Code, HeadraceError


def callers(settings: ConnectionSettings, request: Request, streams: int, window: int) -> Sequence[OipStream]:
    requests = request_cache(request)
    return [OipStream(settings.beginning_at(number), request, requests, window) for number in range(streams)]


class OipStream:
    """A stream on a connection of its own. After it has ended, the next call opens a new one."""

    def __init__(self, settings: ConnectionSettings, request: Request, requests: RequestCache, window: int) -> None:
        self._settings = settings
        self._timeout = request.timeout
        self._requests = requests
        self._window = asyncio.Semaphore(window)
        self._ids = itertools.count(1)
        self._connection = Connection(settings)
        self._start = self._connection.channel.stream_stream(oip_path("ModelStreamInfer"))
        self._exchange: OipExchange | None = None

    async def __aenter__(self) -> OipStream:
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exchange is not None:
            await self._exchange.close()
        await self._connection.close()

    async def call(self, inputs: Inputs, departure: Departure) -> Answer:
        async with self._window:
            begun = time.perf_counter()
            try:
                exchange = await self._open_exchange(departure)
            except HeadraceError as error:
                return Answer(departure.sent, time.perf_counter(), int(error.code), error.message, UNKNOWN_TIMES)
            request_id = str(next(self._ids))
            pending = exchange.send(request_id, with_id(request_id, self._requests.get(inputs)), departure)
            try:
                code, why = await self._end_of(pending, begun)
            finally:
                exchange.abandon(pending)
            return Answer(departure.sent, time.perf_counter(), code, why, UNKNOWN_TIMES)

    @property
    def outage_seconds(self) -> float:
        return self._connection.outage.seconds

    async def _open_exchange(self, departure: Departure) -> OipExchange:
        """The current exchange, or a new one if it has ended. Raises HeadraceError."""
        if self._exchange is None or self._exchange.ended:
            connected = await self._connection.connected(departure, self._timeout)
            # Another call may have opened one meanwhile.
            if self._exchange is None or self._exchange.ended:
                call = self._start(metadata=call_metadata(self._settings))
                self._exchange = OipExchange(call, str(self._settings.first_address), connected=connected)
        return self._exchange

    async def _end_of(self, pending: PendingRequest, begun: float) -> tuple[int, str]:
        if self._timeout is None:
            return await pending.end
        # Not every server enforces a timeout, and an error within a stream has no code to tell a timeout by.
        try:
            async with asyncio.timeout(begun + self._timeout - time.perf_counter()):
                return await pending.end
        except TimeoutError:
            return int(Code.DEADLINE_EXCEEDED), f"no answer within {self._timeout:g} s"
