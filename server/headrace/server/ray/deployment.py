"""The deployment: what Ray Serve makes replicas of, and by what it scales them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import ray
from google.protobuf.descriptor import MethodDescriptor
from ray import serve

from headrace.server.composition import DELIVERY_SECONDS
from headrace.server.hosted import MOVING_SECONDS, Hosted
from headrace.server.process_memory import available_bytes
from headrace.server.processors import available_processors
from headrace.server.ray.adapter import Bridge, Message, methods
from headrace.server.ray.arguments import check, to_serve
from headrace.server.ray.ingress import take_ingress
from headrace.server.settings import Settings

METRIC = "headrace_tickets"
HEALTH_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Headrace:
    """A replica. Ray calls its methods; those of the RPCs are set below."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        ours, rays = logging.getLogger("headrace"), logging.getLogger("ray.serve")
        ours.handlers, ours.propagate = rays.handlers, False
        disk, settings = to_serve(args)
        ours.setLevel(settings.log_level.upper())
        self.hosted = Hosted(disk, _share_of(settings))
        self.bridge = Bridge(self.hosted)
        if why := take_ingress(self.hosted):
            logger.warning("calls take Ray's own way to this replica, which is slower: %s", why)

    async def check_health(self) -> None:
        """Raises when the event loop of the server does not answer."""
        async with asyncio.timeout(HEALTH_SECONDS):
            await self.record_autoscaling_stats()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {METRIC: float(await asyncio.wrap_future(self.hosted.call(self.hosted.tickets())))}

    def __del__(self) -> None:
        if hasattr(self, "hosted"):
            self.hosted.close()


def _share_of(settings: Settings) -> Settings:
    """Replicas of a machine share it: `num_cpus` and `memory` of `ray_actor_options` say how, where options do not."""
    assigned = ray.get_runtime_context().get_assigned_resources()
    processors = int(assigned.get("CPU", 0))
    if processors and not any(each.startswith("INFERENCE_NUM_THREADS=") for each in settings.property):
        settings = replace(settings, property=(*settings.property, f"INFERENCE_NUM_THREADS={processors}"))
    share = min(1.0, (processors or 1) / available_processors())
    memory = int(assigned.get("memory", 0)) or int(available_bytes() * share)
    return settings if settings.memory else replace(settings, memory=memory // 2)


def _method(rpc: MethodDescriptor) -> Any:
    """What Ray calls for an RPC, if it is not served by our transport."""
    path = f"{rpc.containing_service.full_name}/{rpc.name}"

    async def streaming(self: Headrace, request: Any, grpc_context: Any) -> AsyncIterator[Message]:
        async for message in self.bridge.answers(
            path, request if rpc.client_streaming else _one(request), grpc_context
        ):
            yield message

    async def unary(self: Headrace, request: bytes, grpc_context: Any) -> Message:
        responses = [message async for message in self.bridge.answers(path, _one(request), grpc_context)]
        return responses[0]

    return streaming if rpc.server_streaming else unary


async def _one(request: bytes) -> AsyncIterator[bytes]:
    yield request


for _rpc in methods():
    setattr(Headrace, _rpc.name, _method(_rpc))


def app(args: dict[str, Any]) -> Any:
    """The application. Models are tried before anything is deployed; raises ValueError when one cannot be served."""
    _, settings = to_serve(args)
    check(args)
    deployment = serve.deployment(
        Headrace,
        max_ongoing_requests=settings.streams,
        # Ray waits for `grace` at least, and kills the replica after this time.
        graceful_shutdown_timeout_s=settings.drain_delay + MOVING_SECONDS + settings.grace + DELIVERY_SECONDS + 5,
    )
    return deployment.bind(args)


def tickets_policy(context: Any) -> tuple[float, dict[str, Any]]:
    """As many replicas as keep `target_ongoing_requests` tickets in flight on each, on average."""
    tickets = sum((context.aggregated_metrics or {}).get(METRIC, {}).values())
    return tickets / context.config.get_target_ongoing_requests(), {}
