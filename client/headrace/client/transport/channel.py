"""A gRPC channel to a server: its options, and waiting until it is connected."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled, Unavailable

StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]

MAX_GRPC_MESSAGE_BYTES = (1 << 31) - 1
"""gRPC takes no larger message."""
SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name
_OPTIONS: tuple[tuple[str, Any], ...] = (
    # Messages are checked against the server's limit before they are sent.
    ("grpc.max_send_message_length", -1),
    # A flow-control window that grows with the traffic does not bound memory. A fixed one of this size is as fast.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    # Each channel has a connection of its own. By default the channels of a process to one server share one.
    ("grpc.use_local_subchannel_pool", 1),
    # A vanished peer is detected within 40 seconds, even on a silent stream.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that is still starting is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(target: str, max_message_bytes: int) -> grpc.aio.Channel:
    """A channel, which connects when it is first used."""
    receive = ("grpc.max_receive_message_length", max_message_bytes)
    return grpc.aio.insecure_channel(target, options=(*_OPTIONS, receive))


def path(method: str) -> str:
    """The path of a method of the service `headrace.v1.Inference`. That of another service is a path already."""
    return method if method.startswith("/") else f"/{SERVICE}/{method}"


async def wait_connected(channel: grpc.aio.Channel, target: str, timeout: float) -> None:
    """Wait until the channel is connected.

    Raises Unavailable after `timeout` seconds, and Cancelled if the channel is closed.
    """
    if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
        return
    try:
        async with asyncio.timeout(timeout):
            await channel.channel_ready()
    except TimeoutError:
        raise Unavailable(f"no server answers at {target} (tried for {timeout:g} s)") from None
    except grpc.aio.UsageError:
        raise Cancelled("the connection was closed") from None
