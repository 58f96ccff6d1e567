"""The server put together: core, engine, dispatcher, models and services, without signals, printing or ports.

A process that serves (`server`), tests, and any other way to run the server stand on this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from headrace.server.core.core import Core
from headrace.server.core.engine_api import Engine
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.lifecycle.lifecycle import Lifecycle
from headrace.server.lifecycle.pruning import Pruning
from headrace.server.repository.named import NamedModel
from headrace.server.repository.scan import Scan
from headrace.server.services.api import Control
from headrace.server.services.call import Call, Service
from headrace.server.services.gate import Gate
from headrace.server.services.health import HEALTH, Health, health_service
from headrace.server.services.native.service import inference_service
from headrace.server.services.observing import Observers, Tracer
from headrace.server.services.oip.region_registry import OwnedRegions
from headrace.server.services.oip.repository import DEFAULT_LOG_FORMAT
from headrace.server.services.oip.service import open_inference_service
from headrace.server.services.reflection import reflection_service
from headrace.server.services.rpcs import RpcFactory
from headrace.server.settings import Settings
from headrace.server.telemetry.incidents import IncidentIds
from headrace.server.telemetry.metrics.loop_lag import LoopLag
from headrace.server.telemetry.request_log import RequestLog
from headrace.wire.errors import HeadraceError

SERVICES = ("headrace.v1.Inference", "inference.GRPCInferenceService")
"""The services of inference: beside the models and the whole server, health reports their status."""
MAX_PROBES = 256
"""Probes answered at once, and watches open at once, beside `--streams`."""
DELIVERY_SECONDS = 1.0
"""The time, after the grace period, in which clients can still receive the last events of their tickets."""


class ModelLoader(Protocol):
    """Loads models into the engine: `loading.loader.Loader`."""

    def load(self, model: NamedModel, more: bool = False) -> ModelSpec: ...
    def load_variant(self, model: NamedModel, spec: ModelSpec, outputs: Sequence[int]) -> ModelSpec: ...


class Scanner(Protocol):
    """Looks at what models there are: `repository.scan.Disk`."""

    def scan(self) -> Scan: ...


class Application:
    """To be made on the event loop that it runs on. `lifecycle` then loads what is on `disk` into the engine, and
    `pruning` makes variants of it.

    `services` is what a transport serves; it admits up to `max_calls` calls at once.
    """

    def __init__(
        self,
        core: Core,
        engine: Engine,
        disk: Scanner,
        loader: ModelLoader,
        settings: Settings,
        has_room: Callable[[int], bool],
        tracer: Tracer | None = None,
        control: Callable[[Lifecycle], Control] = lambda lifecycle: lifecycle,
    ) -> None:
        """`has_room` says whether there is memory for a variant of a model that takes so many bytes.

        `tracer` makes traces of requests. `control` returns what loads models for clients, if not the lifecycle alone.
        """
        self.core = core
        self.dispatcher = Dispatcher(core, engine, IncidentIds())
        loop = asyncio.get_running_loop()
        self._request_log = RequestLog(settings.log_requests, loop.time, loop.call_later)
        observers = Observers(self._request_log, tracer)
        self.health = Health(("", *SERVICES))
        self.loop_lag = LoopLag()
        self.lifecycle = Lifecycle(
            disk.scan, loader.load, core, self.dispatcher.tell, self.health, allowed=settings.model_control
        )
        self.pruning = Pruning(
            loader.load_variant, core, self.dispatcher.tell, self.dispatcher.now, self.lifecycle.source, has_room
        )
        controls = control(self.lifecycle)
        self.regions = OwnedRegions() if settings.shared_memory else None
        """The shared memory that clients have registered; None if that is not allowed."""
        self._calls = Gate(settings.streams, f"{settings.streams} streams and unary calls are open, which is the limit")
        self._watches = Gate(MAX_PROBES, f"{MAX_PROBES} watches are open, which is the limit")
        probing = Gate(MAX_PROBES, f"{MAX_PROBES} probes are being answered, which is the limit")
        self._gates = self._calls, self._watches, probing
        rpcs, watches, probes = map(RpcFactory, self._gates)
        self.max_calls = settings.streams + 2 * MAX_PROBES
        self.services: Sequence[Service] = (
            inference_service(self.dispatcher, controls, rpcs, probes, observers, self.loop_lag.longest),
            open_inference_service(
                self.dispatcher,
                controls,
                self.regions,
                self.health,
                rpcs,
                probes,
                observers,
                DEFAULT_LOG_FORMAT if settings.log_format == "text" else settings.log_format,
            ),
            health_service(self.health, probes, watches),
            reflection_service((*SERVICES, HEALTH), watches),
        )

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded, which cannot be stopped."""
        return self.lifecycle.loading or self.pruning.loading

    def status_of(self, error: BaseException, call: Call, rpc: str) -> HeadraceError:
        """The error that a call ends with, logged unless its handler has seen to that."""
        known = error if isinstance(error, HeadraceError) else self.dispatcher.incident(error)
        if not call.reported:
            self._request_log.ended(call, rpc, known)
        return known

    def keep_only(self, identities: Collection[str]) -> None:
        """Let go of what others have registered: nobody can call in their names any more."""
        if self.regions is not None:
            self.regions.keep_only(identities)

    def refused_calls(self) -> Mapping[str, int]:
        """How many calls were refused before they were read: by reason, as metrics have it."""
        return {
            "calls": sum(gate.refused for gate in self._gates),
            "stopping": sum(gate.refused_closed for gate in self._gates),
            "overload": sum(gate.overloaded for gate in self._gates),
        }

    def drain(self) -> None:
        """Refuse new calls and new work, and finish what is in flight. Streams end as the core decides."""
        self._request_log.draining = True
        self.health.withdraw()
        self._calls.close()
        self._watches.close()
        self.dispatcher.tell(Core.drain)
        self.health.end()

    async def drained(self, grace: float) -> None:
        """Wait until the last call has ended, for as long as the grace period and the delivery of what it ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace + DELIVERY_SECONDS):
                await self._calls.wait_closed()

    def close(self) -> None:
        """Let go of what is not memory. The engine is the caller's to close."""
        self.dispatcher.close()
        self.loop_lag.close()
        self._request_log.flush()
        if self.regions is not None:
            self.regions.close()
