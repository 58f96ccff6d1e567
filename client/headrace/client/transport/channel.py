"""A gRPC channel to one address: its options, and the methods that are called on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, cast, runtime_checkable

import grpc
import grpc.aio

from headrace.client.protocol.addresses import Address
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.transport.credentials import channel_credentials
from headrace.client.transport.processes import check_not_forked, mark_used
from headrace.v1 import inference_pb2 as pb


class StreamCall(Protocol):
    """A call of grpc.aio, or one that looks like it."""

    async def read(self) -> Any: ...
    async def write(self, message: bytes, /) -> None: ...
    async def done_writing(self) -> None: ...
    def cancel(self) -> bool: ...
    def add_done_callback(self, callback: Callable[[Any], None], /) -> None: ...


class Channel(Protocol):
    """A channel of grpc.aio, or one that looks like it. Calls end with its errors."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity: ...
    async def wait_for_state_change(self, last: grpc.ChannelConnectivity, /) -> None: ...
    def unary_unary(self, method: str, /) -> Callable[..., Awaitable[bytes]]: ...
    def stream_stream(self, method: str, /) -> Callable[..., StreamCall]: ...
    async def close(self) -> None: ...


@runtime_checkable
class _OpeningLoop(Protocol):
    """An event loop that opens channels itself: see `event_loops`."""

    def open_channel(
        self, target: str, options: Iterable[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> Channel | None: ...


MAX_GRPC_MESSAGE_BYTES = (1 << 31) - 1
"""gRPC takes no larger message."""
SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name
_OPTIONS: dict[str, Any] = {
    # Messages are checked against the server's limit before they are sent.
    "grpc.max_send_message_length": -1,
    # A flow-control window that grows with the traffic does not bound memory. A fixed one of this size is as fast.
    "grpc.http2.bdp_probe": 0,
    "grpc.http2.lookahead_bytes": 1 << 20,
    # Each channel has a connection of its own. By default the channels of a process to one server share one.
    "grpc.use_local_subchannel_pool": 1,
    # A vanished peer is detected within 40 seconds, even on a silent stream.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.max_pings_without_data": 0,
    # A server that is still starting is found soon.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # How long one attempt may take, handshakes included, whatever gRPC calls it. A server far away needs a second.
    "grpc.min_reconnect_backoff_ms": 3_000,
}
_SPREAD = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
"""Connects to every server that a name stands for. By default gRPC connects to one of them."""


def open_channel(settings: ConnectionSettings, address: Address) -> Channel:
    """A channel, which connects when it is first used. Raises RuntimeError in a process in which gRPC cannot work."""
    check_not_forked()
    mark_used()
    options = {**_OPTIONS, "grpc.max_receive_message_length": settings.max_message_bytes}
    if address.local:
        # A proxy of the environment is somewhere else, and would look for the address on its own machine.
        options["grpc.enable_http_proxy"] = 0
    if address.spread:
        options["grpc.service_config"] = _SPREAD
    tls = settings.tls
    if tls is not None and tls.server_name is not None:
        options["grpc.ssl_target_name_override"] = tls.server_name
    options.update(settings.options)
    arguments = list(options.items())
    credentials = None if tls is None else channel_credentials(tls)
    loop = asyncio.get_running_loop()
    # Of several addresses any may be the one that is used, and the loop has one channel.
    if len(settings.addresses) == 1 and isinstance(loop, _OpeningLoop):
        channel = loop.open_channel(address.target, arguments, credentials)
        if channel is not None:
            return channel
    if credentials is None:
        return cast(Channel, grpc.aio.insecure_channel(address.target, options=arguments))
    return cast(Channel, grpc.aio.secure_channel(address.target, credentials, options=arguments))


def path(method: str) -> str:
    """The path of a method of the service `headrace.v1.Inference`. That of another service is a path already."""
    return method if method.startswith("/") else f"/{SERVICE}/{method}"
