"""What gRPC is told about a server, whichever transport runs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from headrace.server.settings import Settings
from headrace.wire.errors import HeadraceError

REFUSALS = 1024
"""Calls that may be in the course of being refused."""
PENDING = 8192
"""Calls that may wait to be accepted, at least: gRPC cancels further ones without a message."""
COMPRESSION_LEVELS = {"none": 0, "gzip": 1, "deflate": 3}
"""gRPC's levels, not its algorithms: with those it would compress for clients that cannot read it, too. Of what a
client accepts, the lowest level is gzip, and the highest deflate.
"""
CONNECTION_AGE = 0.45
"""How old a connection gets, as a part of the age of a stream."""
MAX_INT = (1 << 31) - 1
RETRY_KEY = "grpc-retry-pushback-ms"
"""Metadata at the end of a call: the milliseconds to wait before it is made again. gRPC's own retries follow it."""
TOO_MANY_CALLS = "Concurrent RPC limit exceeded!"
NO_SUCH_METHOD = "Method not found!"
"""As grpc.aio says it."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`calls` is what the gates of the services admit at once, all together."""

    calls: int
    max_message_bytes: int
    compression: Literal["none", "gzip", "deflate"]
    """Of responses."""
    stream_seconds: float = 0.0
    """The age at which streams are asked to move; 0 for never."""
    longest_wait: Callable[[], float] = lambda: 0.0
    """How many seconds a request may wait, whatever its model; 0 for any time."""
    shared_port: bool = False
    """Whether other processes listen on the same port, on purpose."""

    @classmethod
    def of(
        cls, settings: Settings, calls: int, longest_wait: Callable[[], float], *, shared_port: bool = False
    ) -> ServerOptions:
        """As a server is configured that admits so many calls."""
        return cls(
            calls,
            settings.max_message_bytes,
            settings.compression,
            settings.stream_seconds,
            longest_wait,
            shared_port,
        )

    @property
    def max_calls(self) -> int:
        """Calls that are accepted: more than are admitted, so that a gate can refuse them with a message."""
        return self.calls + REFUSALS

    @property
    def max_waiting(self) -> int:
        """Calls that may wait to be read."""
        return max(2 * self.calls, PENDING)

    def for_grpc(self) -> list[tuple[str, int]]:
        """The arguments of a gRPC server."""
        pending = self.max_waiting
        ages = [("grpc.max_connection_age_ms", self._connection_age_ms())] if self.stream_seconds else []
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.default_compression_level", COMPRESSION_LEVELS[self.compression]),
            # Of one connection, those that were reset right after they were opened included, since they are accepted
            # all the same: a flood of them would fill the queue below, and gRPC would cancel calls of others.
            ("grpc.max_concurrent_streams", pending // 2),
            # The loop accepts few calls per turn, so a burst waits. From 1,000 on gRPC would cancel some of it.
            ("grpc.server.max_pending_requests", pending),
            ("grpc.server.max_pending_requests_hard_limit", pending),
            # Two servers must not share a port by accident.
            ("grpc.so_reuseport", int(self.shared_port)),
            # With the probe, flow-control windows grow until a client whose messages are not read occupies gigabytes;
            # the fixed window needs a larger look-ahead to keep its speed.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 1 << 20),
            # Find dead peers, and allow clients with idle streams to do the same.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *ages,
        ]

    def _connection_age_ms(self) -> int:
        """When a connection takes no more calls, while those that it has go on: clients then make another one.

        gRPC adds or takes off a tenth. It comes before any stream of the connection is asked to move, so that one which
        moves is balanced anew.
        """
        return max(1, min(int(self.stream_seconds * CONNECTION_AGE * 1e3), MAX_INT))


def trailing_metadata(error: HeadraceError) -> tuple[tuple[str, str], ...]:
    """What a call that fails ends with, beside its status."""
    if error.retry_after is None:
        return ()
    return ((RETRY_KEY, str(math.ceil(error.retry_after * 1e3))),)
