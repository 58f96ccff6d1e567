"""The channels of a connection, one for each address, and which of them is used next."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import NamedTuple

import grpc

from headrace.client.protocol.address_choice import AddressChoice
from headrace.client.protocol.addresses import Address
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.transport.channel import Channel, StreamCall, open_channel, path
from headrace.client.transport.connecting import wait_connected
from headrace.client.transport.credentials import call_metadata
from headrace.wire.errors import Cancelled, HeadraceError, Unavailable

ATTEMPT_SECONDS = 1.0
"""How long an address may take while there are others that have not failed."""

_READY = grpc.ChannelConnectivity.READY


class Chosen(NamedTuple):
    """An address, by its number, and its channel, which is connected."""

    number: int
    address: Address
    channel: Channel


class Channels:
    """Opens a channel when its address is first used. Belongs to the event loop on which it is made."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self._settings = settings
        count, first = len(settings.addresses), settings.first
        first = random.randrange(count) if first is None else first
        self._choice = AddressChoice(count, first, random.random)
        self._channels: dict[int, Channel] = {}
        self._looks: set[asyncio.Task[None]] = set()
        """Wait for avoided addresses to connect. No stream and no call waits for them."""
        self._has_alternatives = count > 1
        self._closed = False

    async def connected(self, timeout: float, *, stream: bool) -> Chosen:
        """The channel for the next stream or call. An address that does not answer is passed over.

        Raises Unavailable with the cause if no address answers: at once if waiting cannot help, else after `timeout`
        seconds. Raises Cancelled if the connection is closed meanwhile.
        """
        end = self.loop.time() + timeout
        self._try_due()
        while self._has_alternatives and (number := self._choice.best(stream=stream)) is not None:
            left = end - self.loop.time()
            try:
                limit = self._choice.patience(number, ATTEMPT_SECONDS)
                await self._wait_connected(number, min(left, limit), once=True)
            except Unavailable:
                self._choice.failed(number, self.loop.time())
                if left <= limit:
                    break
            else:
                return self._chosen(number)
        return self._chosen(await self._first_connected(timeout, end, stream=stream))

    def start_stream(self, chosen: Chosen) -> StreamCall:
        """A call of `Stream`, which counts as open until it ends in any way."""
        start = chosen.channel.stream_stream(path("Stream"))
        call = start(metadata=call_metadata(self._settings))
        self._choice.opened(chosen.number)
        call.add_done_callback(lambda _: self._choice.closed(chosen.number))
        return call

    def answered(self, chosen: Chosen) -> None:
        self._choice.answered(chosen.number)

    def failed(self, chosen: Chosen) -> None:
        """Avoid the address for a while, if there are others."""
        self._choice.failed(chosen.number, self.loop.time())

    def patience(self, chosen: Chosen, left: float) -> float:
        """How long to wait for an answer that usually comes at once, before another address is asked."""
        if not self.has_other(chosen):
            return left
        return min(left, self._choice.patience(chosen.number, ATTEMPT_SECONDS))

    def has_other(self, chosen: Chosen) -> bool:
        """Whether there is another address than this that is not being avoided."""
        return self._choice.has_usable_beside(chosen.number)

    @property
    def has_others(self) -> bool:
        """Whether there are several addresses, and one that is not being avoided."""
        return self._has_alternatives and self._choice.has_usable

    async def close(self) -> None:
        self._closed = True
        for look in self._looks:
            look.cancel()
        channels = list(self._channels.values())
        self._channels.clear()  # gRPC counts as in use as long as there are references
        for channel in channels:
            await channel.close()

    def _channel(self, number: int) -> Channel:
        channel = self._channels.get(number)
        if channel is None:
            if self._closed:
                raise Cancelled("the connection was closed")
            channel = self._channels[number] = open_channel(self._settings, self._settings.addresses[number])
        return channel

    def _chosen(self, number: int) -> Chosen:
        return Chosen(number, self._settings.addresses[number], self._channel(number))

    def _try_due(self) -> None:
        """Start to connect to addresses that were avoided for long enough, and use those that have connected."""
        now = self.loop.time()
        for number in self._choice.due(now):
            if self._channel(number).get_state(try_to_connect=True) is _READY:
                self._choice.restored(number)
            else:
                self._choice.failed(number, now)
                look = asyncio.create_task(self._look(number))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)

    async def _look(self, number: int) -> None:
        """Use an address again as soon as it connects: its connection may be too old when it is looked at next."""
        with suppress(HeadraceError):
            await self._wait_connected(number, ATTEMPT_SECONDS, once=True)
            self._choice.restored(number)

    async def _first_connected(self, timeout: float, end: float, *, stream: bool) -> int:
        """The first address that connects, where all are avoided or there is only one."""
        indices = range(len(self._settings.addresses))
        ready = [number for number in indices if self._channel(number).get_state(try_to_connect=True) is _READY]
        if ready:
            return self._choice.best_of(ready, stream=stream)
        if len(indices) == 1:
            await self._wait_connected(0, timeout)
            return 0
        left = max(0.0, end - self.loop.time())
        waits = {asyncio.ensure_future(self._wait_connected(number, left)): number for number in indices}
        try:
            return await _first_success(waits)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _wait_connected(self, number: int, timeout: float, *, once: bool = False) -> None:
        address = self._settings.addresses[number]
        await wait_connected(self._channel(number), self._settings, address, timeout, once=once)

    def __repr__(self) -> str:
        return f"<Channels to {self._settings.target}, {self._choice!r}>"


async def _first_success(waits: dict[asyncio.Task[None], int]) -> int:
    """Raises Unavailable with the causes of all if none succeeds, and another error at once."""
    pending = set(waits)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            error = wait.exception()
            if error is None:
                return waits[wait]
            if not isinstance(error, Unavailable):
                raise error
    errors = [wait.exception() for wait in waits]
    raise Unavailable("; ".join(error.message for error in errors if isinstance(error, Unavailable)))
