"""Our transport in place of the gRPC server of a replica, where Ray's proxy is HAProxy.

`start_grpc_server` of a replica is private to Ray, so it is looked at before it is replaced.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import ray
from ray.serve.generated import serve_pb2

from headrace.server.hosted import Hosted
from headrace.server.services.call import Service
from headrace.server.services.gate import Gate
from headrace.server.services.rpcs import RpcFactory
from headrace.server.transport.addresses import CannotListenError
from headrace.wire.errors import Unavailable

TESTED = "2.60."
PARAMETERS = ["service_handler_factory", "grpc_options", "event_loop", "enable_so_reuseport"]
OF_REPLICA = ["perform_graceful_shutdown", "_dataplane_health_check"]
PROXY = "ray.serve.RayServeAPIService"
"""What HAProxy asks whether a replica is to get streams, over the port that clients use."""


def take_ingress(hosted: Hosted) -> str:
    """Let the replica of this process start our transport. Returns why it cannot, or nothing."""
    if not ray.__version__.startswith(TESTED):
        return f"Ray {ray.__version__} is not {TESTED}x"
    try:
        from ray.serve._private import replica as private

        if not private.RAY_SERVE_ENABLE_DIRECT_INGRESS:
            return "the proxy is not HAProxy (RAY_SERVE_ENABLE_HA_PROXY=1)"
        parameters = list(inspect.signature(private.start_grpc_server).parameters)
        missing = [name for name in OF_REPLICA if not hasattr(private.Replica, name)]
    except (ImportError, AttributeError) as error:
        return f"Ray {ray.__version__} is not as expected: {error}"
    if parameters != PARAMETERS or missing:
        return f"Ray {ray.__version__} is not as expected: start_grpc_server({', '.join(parameters)}), no {missing}"

    async def start(factory: Any, grpc_options: Any, **_: object) -> tuple[asyncio.Task[Any], _Ingress]:
        ingress = _Ingress(hosted, factory.__self__)
        try:
            await asyncio.wrap_future(hosted.call(ingress.listen(_hosts(), grpc_options.port)))
        except CannotListenError as error:
            raise RuntimeError(str(error)) from error  # Ray tries another port
        return asyncio.create_task(ingress.ended.wait()), ingress

    private.start_grpc_server = start
    return ""


def _hosts() -> Sequence[str]:
    """HAProxy comes from this machine by loopback, and from others to the address of this node."""
    return list(dict.fromkeys(("127.0.0.1", str(ray.util.get_node_ip_address()))))


class _Ingress:
    """What a replica holds of its gRPC server. Its streams are told as soon as Ray begins to stop the replica."""

    def __init__(self, hosted: Hosted, replica: Any) -> None:
        self.ended = asyncio.Event()
        self._hosted = hosted
        self._replica = replica
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Future[None] | None = None
        self._stop_replica: Callable[[], Coroutine[Any, Any, None]] = replica.perform_graceful_shutdown
        replica.perform_graceful_shutdown = self._shut_down

    async def listen(self, hosts: Sequence[str], port: int) -> None:
        probes = RpcFactory(Gate(64, "64 probes of Ray are being answered, which is the limit"))
        healthz = probes.unary(self._healthz, serve_pb2.HealthzRequest)
        await self._hosted.listen(hosts, port, [Service(PROXY, {"Healthz": healthz})])

    async def stop(self, grace: float | None) -> None:
        """As that of grpc.aio. Ray calls it when its own time for draining is over."""
        await asyncio.wait([self._drain()], timeout=grace)
        self.ended.set()

    async def _shut_down(self) -> None:
        self._drain()
        await self._stop_replica()

    def _drain(self) -> asyncio.Future[None]:
        if self._draining is None:
            self._draining = asyncio.wrap_future(self._hosted.call(self._hosted.drain()))
        return self._draining

    async def _healthz(self, _request: object) -> Any:
        """On our loop, which has to be alive; Ray's says what the replica is to do."""
        asked = asyncio.run_coroutine_threadsafe(self._replica._dataplane_health_check(), self._loop)
        healthy, message = await asyncio.wrap_future(asked)
        if not healthy:
            raise Unavailable(message)
        return serve_pb2.HealthzResponse(message=message)
