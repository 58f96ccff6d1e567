"""`grpc.health.v1.Health`: what orchestrators and load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from grpc_health.v1 import health_pb2 as pb

from headrace.server.services.call import Call, Service
from headrace.server.services.gate import STOPPING
from headrace.server.services.rpcs import Rpcs
from headrace.wire.errors import NotFound, Unavailable, quote

HEALTH: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
_Status = pb.HealthCheckResponse


class Health:
    """The status of services, each by its name: `""` is the whole server.

    grpcio-health-checking has a servicer, but it forgets all watchers of a service when one of them leaves, and a
    client that watches delays the server's end.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(services, _Status.SERVING)
        self._withdrawn = self._ended = False
        self._news = asyncio.Event()

    def set(self, service: str, serving: bool) -> None:
        """Set whether a service can be used. None is reported as usable once the server has withdrawn."""
        if not self._withdrawn:
            self._statuses[service] = _Status.SERVING if serving else _Status.NOT_SERVING
            self._tell()

    def ready(self) -> bool:
        """Whether the server wants work."""
        return not self._withdrawn

    def withdraw(self) -> None:
        """Report nothing as SERVING from now on, so that no more work is sent here, though it would still be done."""
        self._withdrawn = True
        self._statuses = dict.fromkeys(self._statuses, _Status.NOT_SERVING)
        self._tell()

    def end(self) -> None:
        """End every watch, once it has sent the last status."""
        self._ended = True
        self._tell()

    async def check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFound(f"there is no service {quote(request.service)}")
        return _Status(status=status)

    async def watch(self, request: pb.HealthCheckRequest, call: Call) -> None:
        """Raises Unavailable when the server stops."""
        told = None
        while True:
            news, status = self._news, self._statuses.get(request.service, _Status.SERVICE_UNKNOWN)
            if status != told:
                await call.write(_Status(status=status).SerializeToString())
                told = status
            elif self._ended:
                raise Unavailable(STOPPING)
            else:
                await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def health_service(health: Health, probes: Rpcs, watches: Rpcs) -> Service:
    request = pb.HealthCheckRequest
    return Service(
        HEALTH, {"Check": probes.unary(health.check, request), "Watch": watches.watch(health.watch, request)}
    )
