"""A server of grpc.aio, as a transport."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import grpc

from headrace.server.dispatcher.event_loop import PollingLoop, PollingSelector
from headrace.server.services.call import Service
from headrace.server.transport.addresses import Addresses
from headrace.server.transport.aio.handlers import CallLife, UnknownMethods, handlers
from headrace.server.transport.binding import bind
from headrace.server.transport.credentials import CurrentCertificates
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.message_turns import MessageTurns
from headrace.server.transport.options import ServerOptions
from headrace.server.transport.receiving import Receiving


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """grpc.aio logs a traceback for each client that vanishes while the response of a unary call is sent to it."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


class AioTransport:
    """`interface.Transport`. A thread of gRPC polls, and wakes the loop."""

    name: ClassVar[str] = "aio"

    def __init__(self, busy_poll: float) -> None:
        self.selector = PollingSelector(busy_poll)

    def new_loop(self) -> PollingLoop:
        return PollingLoop(self.selector)

    def server(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        status_of: StatusOf,
        receiving: Receiving,
        options: ServerOptions,
    ) -> AioServer:
        return AioServer(services, entrance, status_of, receiving, options)


class AioServer:
    """`interface.Server`."""

    def __init__(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        status_of: StatusOf,
        receiving: Receiving,
        options: ServerOptions,
    ) -> None:
        self._server = grpc.aio.server(options=options.for_grpc(), maximum_concurrent_rpcs=options.max_calls)
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_worth_a_line)
        life = CallLife(entrance, status_of, receiving, MessageTurns())
        self._server.add_generic_rpc_handlers([*(handlers(each, life) for each in services), UnknownMethods(life)])

    def listen(self, addresses: Addresses, certificates: CurrentCertificates | None) -> None:
        bind(addresses, certificates, self._add_port)

    def _add_port(self, target: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials is None:
            return self._server.add_insecure_port(target)
        return self._server.add_secure_port(target, credentials)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        await self._server.stop(grace)
