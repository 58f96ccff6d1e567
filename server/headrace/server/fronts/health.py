"""`grpc.health.v1.Health`: what orchestrators and load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb

from headrace.wire.errors import quote

HEALTH: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
Context = grpc.aio.ServicerContext[Any, Any]
_Status = pb.HealthCheckResponse


class HealthFront:
    """The status of services, each by its name: `""` is the whole server.

    grpcio-health-checking has a servicer, but of several that watch one service it forgets all when one leaves, and who
    watches holds up the server's end.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(services, _Status.SERVING)
        self._draining = False
        self._news = asyncio.Event()

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service can be used. Nothing can, from when draining begins."""
        if not self._draining:
            self._statuses[service] = _Status.SERVING if serving else _Status.NOT_SERVING
            self._tell()

    def drain(self) -> None:
        """Nothing is SERVING from now on. Who watches is told, and then has seen the last of it."""
        self._draining = True
        self._statuses = dict.fromkeys(self._statuses, _Status.NOT_SERVING)
        self._tell()

    async def check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {quote(request.service)}")
        return _Status(status=status)

    async def watch(self, request: pb.HealthCheckRequest, context: Context) -> None:
        told = None
        while True:
            news, status = self._news, self._statuses.get(request.service, _Status.SERVICE_UNKNOWN)
            if status != told:
                await context.write(_Status(status=status))
                told = status
            elif self._draining:
                return
            else:
                await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def health_service(front: HealthFront) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        HEALTH,
        {
            "Check": grpc.unary_unary_rpc_method_handler(
                front.check,
                request_deserializer=pb.HealthCheckRequest.FromString,
                response_serializer=_Status.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                front.watch,
                request_deserializer=pb.HealthCheckRequest.FromString,
                response_serializer=_Status.SerializeToString,
            ),
        },
    )
