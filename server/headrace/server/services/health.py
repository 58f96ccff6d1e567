"""`grpc.health.v1.Health`, for orchestrators and load balancers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from grpc_health.v1 import health_pb2 as pb

from headrace.server.services.call import Call, Service
from headrace.server.services.gate import STOPPING
from headrace.server.services.rpcs import RpcFactory
from headrace.wire.errors import NotFound, Unavailable, quote

HEALTH: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
_Status = pb.HealthCheckResponse


class Health:
    """The status of each service by name; the name `""` stands for the whole server.

    The server and the services that it is made with are not ready before `begin`.

    The servicer of grpcio-health-checking is not used: it stops notifying all watchers of a service when one of them
    leaves, and a client that watches delays the end of the server.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)
        self._statuses = dict.fromkeys(self._services, _Status.NOT_SERVING)
        self._begun = self._withdrawn = self._ended = False
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """All models have been loaded, and the server wants work."""
        self._begun = True
        for service in self._services:
            self.set(service, True)

    def set(self, service: str, serving: bool) -> None:
        """Set whether a service can be used. This has no effect once the server has withdrawn."""
        status = _Status.SERVING if serving else _Status.NOT_SERVING
        if not self._withdrawn and self._statuses.get(service) != status:
            self._statuses[service] = status
            self._notify()

    def forget(self, service: str) -> None:
        """There is no such service any more."""
        if self._statuses.pop(service, None) is not None:
            self._notify()

    def ready(self) -> bool:
        """Whether the server wants work."""
        return self._begun and not self._withdrawn

    def serving(self) -> bool:
        """Whether models that are loaded may be used, even if others are still to be loaded."""
        return not self._withdrawn

    def withdraw(self) -> None:
        """Report every service as NOT_SERVING from now on, so that clients send no more work. It is still accepted."""
        self._withdrawn = True
        self._statuses = dict.fromkeys(self._statuses, _Status.NOT_SERVING)
        self._notify()

    def end(self) -> None:
        """End every watch once it has sent the last status."""
        self._ended = True
        self._notify()

    async def check(self, request: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        """Raises NotFound for an unknown service."""
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFound(f"there is no service {quote(request.service)}")
        return _Status(status=status)

    async def watch(self, request: pb.HealthCheckRequest, call: Call) -> None:
        """Write the status now and whenever it changes. Raises Unavailable when the server stops."""
        sent = None
        while True:
            changed, status = self._changed, self._statuses.get(request.service, _Status.SERVICE_UNKNOWN)
            if status != sent:
                await call.write(_Status(status=status).SerializeToString())
                sent = status
            elif self._ended:
                raise Unavailable(STOPPING)
            else:
                await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def health_service(health: Health, probes: RpcFactory, watches: RpcFactory) -> Service:
    request = pb.HealthCheckRequest
    return Service(
        HEALTH, {"Check": probes.unary(health.check, request), "Watch": watches.server_streaming(health.watch, request)}
    )
