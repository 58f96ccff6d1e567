"""The gRPC server, before it listens."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

_COMPRESSIONS = {
    "none": None,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
REFUSALS = 1024
"""Calls that are being refused, at once."""
PENDING = 8192
"""Calls that may wait to be accepted, at least: those beyond are cancelled without a word."""


def grpc_server(
    handlers: Sequence[grpc.GenericRpcHandler],
    *,
    calls: int,
    max_message_bytes: int,
    compression: str,
) -> grpc.aio.Server:
    """A server of `handlers`, whose gates let `calls` in at once, all together.

    There is room for more, so that those who come then are told by a gate, in words. What gRPC itself refuses is a
    flood.
    """
    server = grpc.aio.server(
        options=_options(max_message_bytes, calls),
        maximum_concurrent_rpcs=calls + REFUSALS,
        compression=_COMPRESSIONS[compression],
    )
    server.add_generic_rpc_handlers(handlers)
    return server


def _options(max_message_bytes: int, calls: int) -> list[tuple[str, int]]:
    pending = max(2 * calls, PENDING)
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # One call is accepted in a turn of the loop, so a burst waits. From 1,000 on gRPC would cancel some of those.
        ("grpc.server.max_pending_requests", pending),
        ("grpc.server.max_pending_requests_hard_limit", pending),
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
