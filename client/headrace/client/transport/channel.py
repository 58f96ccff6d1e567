"""gRPC as this library uses it: a channel's options, reaching a server, statuses as errors."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled, HeadraceError, Unavailable, Unimplemented, rebuild

StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]

_SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name
_OPTIONS: tuple[tuple[str, Any], ...] = (
    # What is sent is checked against the server's own limit.
    ("grpc.max_send_message_length", -1),
    # A window of the transport that grows with the traffic does not bound memory; a fixed one of
    # this size is as fast.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    # A channel is a connection: those of one process to one server would share a single one.
    ("grpc.use_local_subchannel_pool", 1),
    # A peer that has vanished is noticed in 40 seconds, by a stream that is silent too.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that is just starting is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_LOST = ("RST_STREAM", "Internal error from Core")
"""What a lost connection is called behind a proxy, and when a write notices it first."""


def open_channel(target: str, max_message_bytes: int) -> grpc.aio.Channel:
    """A channel that connects when it is used first."""
    receive = ("grpc.max_receive_message_length", max_message_bytes)
    return grpc.aio.insecure_channel(target, options=(*_OPTIONS, receive))


def path(method: str) -> str:
    return f"/{_SERVICE}/{method}"


async def reach(channel: grpc.aio.Channel, target: str, timeout: float) -> None:
    """Wait until there is a connection.

    Raises Unavailable after `timeout` seconds of trying, Cancelled when the channel is closed.
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


def status_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """The status of a call and its words; INTERNAL, where that stands for a lost connection, is UNAVAILABLE."""
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.INTERNAL and any(sign in details for sign in _LOST):
        return grpc.StatusCode.UNAVAILABLE, f"the connection was lost ({details})"
    return code, details


def error_of(error: grpc.aio.AioRpcError, target: str) -> HeadraceError:
    """The error that a status stands for; all that a lost connection may show as is Unavailable."""
    code, details = status_of(error)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable(f"{target}: {details}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unimplemented(f"{target} does not serve {_SERVICE}: {details}")
    # A status does not say whether trying again may help. It does, except where gRPC itself found a
    # message too large.
    busy = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in details
    number: int = code.value[0]
    return rebuild(number, details, busy)


def cancelled_from_outside() -> bool:
    """Whether this task is being cancelled: a call that is closed raises CancelledError as well."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
