"""The connection of a caller that makes gRPC calls itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import grpc.aio

from headrace.client.load.callers.departure import Departure, Outage
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.transport.channel import open_channel
from headrace.client.transport.connecting import wait_connected
from headrace.wire.errors import Cancelled, DeadlineExceeded

_NO_RETRIES = ("grpc.enable_retries", 0)
"""What is counted is what a server answers. And with retries, gRPC (1.85) may never end a stream that begins, and is
written to, as its server goes."""
_UNSETTLED = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)


class Connection:
    """A channel to the first address of these settings, and how long requests have waited for it to connect."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.channel = open_channel(replace(settings, options=(_NO_RETRIES, *settings.options)), settings.first_address)
        self.outage = Outage()
        self._settings = settings

    async def open(self) -> None:
        """Raises Unavailable."""
        settings = self._settings
        await wait_connected(self.channel, settings, settings.first_address, settings.connect_timeout)

    async def close(self) -> None:
        await self.channel.close()

    async def connected(self, departure: Departure, timeout: float | None) -> bool:
        """Whether there is a connection. Waits while that is not known because the channel is connecting.

        If there is none, gRPC fails every call at once until it tries to connect again, and nothing leaves this client.
        Raises Cancelled if the channel is closed, and DeadlineExceeded after `timeout` seconds.
        """
        state = self.channel.get_state(try_to_connect=True)
        if state in _UNSETTLED:
            with departure.waiting_for("connection"), self.outage:
                state = await self._settled(state, timeout)
        return state is grpc.ChannelConnectivity.READY

    async def _settled(self, state: grpc.ChannelConnectivity, timeout: float | None) -> grpc.ChannelConnectivity:
        try:
            async with asyncio.timeout(timeout):
                while state in _UNSETTLED:
                    await self.channel.wait_for_state_change(state)
                    state = self.channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise DeadlineExceeded(f"no connection within {timeout:g} s") from None
        except grpc.aio.UsageError:
            raise Cancelled("the connection was closed") from None
        return state
