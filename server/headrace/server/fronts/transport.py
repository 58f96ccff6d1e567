"""The gRPC server, before it listens."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha.reflection import (
    SERVICE_NAME,
    enable_server_reflection,
)

_COMPRESSIONS = {
    "none": None,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


def grpc_server(
    handlers: Sequence[grpc.GenericRpcHandler],
    services: Sequence[str],
    *,
    calls: int,
    max_message_bytes: int,
    compression: str,
) -> grpc.aio.Server:
    """A server of `services`, which it lists and describes to whoever asks. More than `calls` at once are refused."""
    server = grpc.aio.server(
        options=_options(max_message_bytes),
        maximum_concurrent_rpcs=calls,
        compression=_COMPRESSIONS[compression],
    )
    server.add_generic_rpc_handlers(handlers)
    enable_server_reflection((*services, SERVICE_NAME), server)
    return server


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Two servers must not share a port by accident.
        ("grpc.so_reuseport", 0),
        # With the probe, flow-control windows grow until a client that is not read holds gigabytes; the fixed window
        # wants a larger look-ahead to keep its speed.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1 << 20),
        # Find dead peers, and let clients with idle streams do the same.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
