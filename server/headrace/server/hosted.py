"""The server inside another program: on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from headrace.server.access import read_access
from headrace.server.composition import Application
from headrace.server.core.core import Core
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import Loader
from headrace.server.memory_guard import MemoryGuard
from headrace.server.process_memory import available_bytes
from headrace.server.repository.scan import Disk
from headrace.server.returned_memory import return_memory
from headrace.server.services.call import Service
from headrace.server.settings import Settings
from headrace.server.transport.addresses import addresses_to_bind
from headrace.server.transport.choice import choose_transport
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.interface import Server
from headrace.server.transport.options import ServerOptions
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import FailedPrecondition
from headrace.wire.memory import keep_freed_memory

MOVING_SECONDS, LOOK_SECONDS = 2.0, 0.05
"""The time for clients to move their streams, and between two looks whether they have."""
STOP_SECONDS = 0.5

T = TypeVar("T")


class Hosted:
    """Serves what is on `disk` once it is made, on the ports that `listen` binds. Raises what keeps it from serving."""

    def __init__(self, disk: Disk, settings: Settings) -> None:
        keep_freed_memory()
        self._settings = settings
        self._access = read_access(settings)
        self._transport = choose_transport(settings.transport, settings.busy_poll)
        self._engine = OpenVinoEngine()
        self._guard = MemoryGuard(settings.limits().memory, available_bytes())
        cache = Cache(settings.cache_dir) if settings.cache_dir is not None else None
        self._loader = Loader(self._engine, self._guard.loading, settings.load_timeout, cache)
        self._disk = disk
        self._servers: list[Server] = []
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="headrace", daemon=True)
        self._thread.start()
        self._started.result()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the event loop of the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    async def tickets(self) -> int:
        """Tickets in flight: those that wait and those that run."""
        return sum(stream.in_flight for stream in self.application.core.streams)

    async def listen(self, hosts: Sequence[str], port: int, more: Sequence[Service]) -> None:
        """Accept calls of all services, and `more`, on a port of `hosts`. Raises CannotListenError."""
        longest_wait = self.application.core.models.longest_wait
        options = ServerOptions.of(self._settings, self.application.max_calls, longest_wait)
        services = [*self.application.services, *more]
        server = self._transport.server(services, self.entrance, self.application.status_of, self.receiving, options)
        for host in hosts:
            server.listen(addresses_to_bind(host, port), None)
        await server.start()
        self._servers.append(server)

    async def drain(self) -> None:
        """Report not ready; after the drain delay ask streams to move, then drain, until the last call has ended."""
        core = self.application.core
        self.application.health.withdraw()
        await asyncio.sleep(self._settings.drain_delay)
        self.application.dispatcher.tell(_ask_to_move)
        for _ in range(round(MOVING_SECONDS / LOOK_SECONDS)):
            if not any(stream.asked_to_move and not stream.half_closed for stream in core.streams):
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.application.drain()
        await self.application.drained(self._settings.grace)

    def close(self) -> None:
        """Stop. What is in flight fails, so `drain` first."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has ended already
                self.loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()
            self._engine.close()

    def _ask_again(self) -> None:
        """There are other identities. Called on another thread."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.entrance.ask_again)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._transport.new_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._started.done():
                logging.getLogger(__name__).exception("the server has ended")
            else:
                self._started.set_exception(error)

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        core = Core(self._settings.limits())
        self.application = Application(
            core, self._engine, self._disk, self._loader, self._settings, self._guard.has_room
        )
        self._transport.selector.watcher = self.application.dispatcher
        self.receiving = Receiving()
        self.entrance = Entrance(self._access.guard.door if self._access.guard is not None else None)
        try:
            await self.application.lifecycle.start(await self.application.lifecycle.scan())
        finally:
            self._loader.discard_spare()
        if not len(core.models):
            raise FailedPrecondition("no model could be loaded")
        pruning = self.application.pruning
        self._guard.start(lambda: (0, "") if pruning.drop() else self.receiving.end_some())
        self._access.start(self._ask_again)
        tasks = [
            asyncio.create_task(return_memory(self.application.dispatcher, self._engine.release_memory)),
            asyncio.create_task(pruning.run()),
        ]
        self.application.health.begin()
        self._started.set_result(None)
        await self._ended.wait()
        self._loader.close()
        for server in self._servers:
            await server.stop(STOP_SECONDS)
        for task in tasks:
            task.cancel()
        self._guard.stop()
        self._access.stop()
        self.application.close()


def _ask_to_move(core: Core, now: float) -> None:
    for stream in tuple(core.streams):
        core.drain_stream(stream, now)
