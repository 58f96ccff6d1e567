"""The gRPC server and the address it listens on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeAlias

import grpc

from headrace.server.services.call import Service
from headrace.server.transport.adapter import handlers
from headrace.server.transport.addresses import CannotListenError, addresses_to_bind
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.receiving import Receiving
from headrace.server.transport.status import Incident

GrpcServer: TypeAlias = grpc.aio.Server

_COMPRESSION_LEVELS = {"none": 0, "gzip": 1, "deflate": 3}
"""gRPC's levels, not its algorithms: with those it would compress for clients that cannot read it, too. Of what a
client accepts, the lowest level is gzip, and the highest deflate.
"""
REFUSALS = 1024
"""Calls that may be in the course of being refused."""
PENDING = 8192
"""Calls that may wait to be accepted, at least: gRPC cancels further ones without a message."""


def grpc_server(
    services: Sequence[Service],
    incident: Incident,
    receiving: Receiving,
    *,
    calls: int,
    max_message_bytes: int,
    compression: str,
) -> GrpcServer:
    """A server of `services`, whose gates admit `calls` at once, all together.

    It accepts more, so that a gate can refuse them with a message. gRPC itself only refuses a flood. `receiving` gets
    to know the calls that may be receiving a message.
    """
    server = grpc.aio.server(
        options=_options(max_message_bytes, calls, compression),
        maximum_concurrent_rpcs=calls + REFUSALS,
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_worth_a_line)
    turns = MessageTurns()
    server.add_generic_rpc_handlers([handlers(service, incident, receiving, turns) for service in services])
    return server


def listen(server: GrpcServer, host: str, port: int) -> str:
    """Bind the server to all addresses of a host, and return the address for clients. Port 0 picks a free one.

    Raises CannotListenError.
    """
    addresses = addresses_to_bind(host, port)
    for target in addresses.targets:
        try:
            server.add_insecure_port(target)
        except RuntimeError:
            raise CannotListenError(addresses.shown, "gRPC cannot bind it; its own message says why") from None
    return addresses.shown


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """grpc.aio logs a traceback for each client that vanishes while the response of a unary call is sent to it."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


def _options(max_message_bytes: int, calls: int, compression: str) -> list[tuple[str, int]]:
    pending = max(2 * calls, PENDING)
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.default_compression_level", _COMPRESSION_LEVELS[compression]),
        # Of one connection, those that were reset right after they were opened included, since they are accepted all
        # the same: a flood of them would fill the queue below, and gRPC would cancel calls of others.
        ("grpc.max_concurrent_streams", pending // 2),
        # The loop accepts one call per turn, so a burst waits. From 1,000 on gRPC would cancel some of it.
        ("grpc.server.max_pending_requests", pending),
        ("grpc.server.max_pending_requests_hard_limit", pending),
        # Two servers must not share a port by accident.
        ("grpc.so_reuseport", 0),
        # With the probe, flow-control windows grow until a client whose messages are not read occupies gigabytes; the
        # fixed window needs a larger look-ahead to keep its speed.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1 << 20),
        # Find dead peers, and allow clients with idle streams to do the same.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
