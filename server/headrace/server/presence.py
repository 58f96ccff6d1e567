"""How a server shows itself: alone on its port, or as one of several workers that are one server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.server.access import Access
from headrace.server.composition import Application
from headrace.server.exit_codes import EXIT_CANNOT_LISTEN
from headrace.server.lifecycle.lifecycle import Lifecycle
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import FindingsCache
from headrace.server.metrics_port import MetricsPort, build
from headrace.server.repository.scan import Disk, Scan
from headrace.server.repository.watching import Changes, Watcher
from headrace.server.server_readings import ServerReadings
from headrace.server.services.api import Control
from headrace.server.services.call import Service
from headrace.server.settings import Settings
from headrace.server.telemetry.metrics.answers import ServerAnswers
from headrace.server.telemetry.output import Output, descriptor_of
from headrace.server.transport.addresses import CannotListenError, addresses_to_bind, is_local
from headrace.server.transport.interface import Server


class CannotServeError(Exception):
    """The message is a sentence for the operator."""

    def __init__(self, message: str, code: int = EXIT_CANNOT_LISTEN) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be shown. `transport` is the name of what carries calls."""

    application: Application
    server: Server
    settings: Settings
    access: Access
    transport: str


class Presence(Protocol):
    """`number` is that of a worker, from 1, of `count`; 0 of a server that is alone."""

    number: int
    count: int

    def cache(self, folder: Cache | None) -> FindingsCache | None:
        """Where it is kept what trials have found; `folder` is what the operator has given."""

    def control(self, lifecycle: Lifecycle) -> Control:
        """What loads models for clients."""

    def services(self, application: Application) -> Sequence[Service]:
        """What a transport is to serve."""

    async def begin(self, opening: Opening) -> None:
        """The event loop runs, and no model is loaded. Raises CannotServeError."""

    async def loaded(self, opening: Opening, known: Scan) -> None:
        """All models have been loaded, of what a scan has found. Returns when it serves. Raises CannotServeError."""

    def follow(self, access: Access, changed: Callable[[], None]) -> None:
        """Follow changes of the files that say who may call. `changed` is called, on any thread, when others may."""

    def end(self) -> None:
        """The server has drained."""


class Alone:
    """`Presence` of a process that is the server."""

    number, count = 0, 1

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._watcher: Watcher | None = None
        self._address = ""
        self._output: Output

    def cache(self, folder: Cache | None) -> FindingsCache | None:
        return folder

    def control(self, lifecycle: Lifecycle) -> Control:
        return lifecycle

    def services(self, application: Application) -> Sequence[Service]:
        return application.services

    async def begin(self, opening: Opening) -> None:
        """Accept calls: probes are told that the server is not ready."""
        settings = opening.settings
        # Whoever has started the server may not read what it prints.
        self._output = Output(descriptor_of(sys.stdout), "standard output")
        try:
            addresses = addresses_to_bind(settings.host, settings.port)
            opening.server.listen(addresses, opening.access.current_certificates)
        except CannotListenError as error:
            raise CannotServeError(f"{error}") from None
        if settings.metrics_port is not None:
            readings, health = ServerReadings(opening.application), opening.application.health
            answers = ServerAnswers(readings.read, health.ready, build(opening.transport))
            try:
                port = MetricsPort(answers, settings.metrics_host, settings.metrics_port)
            except CannotListenError as error:
                raise CannotServeError(f"--metrics-port: {error}") from None
            self._output.write(f"headrace metrics on {port.url}")
        if not is_local(settings.host):
            opening.access.warn_of_exposure(addresses.shown)
        self._address = addresses.shown
        await opening.server.start()

    async def loaded(self, opening: Opening, known: Scan) -> None:
        if opening.settings.watch:
            self._watch(opening.application, known)
        opening.application.health.begin()
        self._output.write(f"headrace ready on {self._address} ({count_of_models(opening.application)})")

    def follow(self, access: Access, changed: Callable[[], None]) -> None:
        access.start(changed)

    def end(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()

    def _watch(self, application: Application, known: Scan) -> None:
        """Follow what changes on disk."""
        loop = asyncio.get_running_loop()

        def apply(changes: Changes) -> None:
            asyncio.run_coroutine_threadsafe(application.lifecycle.refresh(changes), loop).result()

        self._watcher = Watcher(self._disk, known, apply)
        self._watcher.start()


def count_of_models(application: Application) -> str:
    """How many models serve, and how many should and do not."""
    count, failed = len({model.spec.name for model in application.core.models}), len(application.lifecycle.failures)
    text = f"{count} model{'' if count == 1 else 's'}"
    return f"{text}, {failed} could not be loaded" if failed else text
