"""Reads what a server says about itself while it is under load, on a connection of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import headrace.client as hc
from headrace.client.load.record.run import ServerLoad
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.status import ServerStatus
from headrace.wire.errors import HeadraceError, PermissionDenied, Unimplemented

INTERVAL_SECONDS = 1.0


@asynccontextmanager
async def watched_server(
    settings: ConnectionSettings, model: str, started: asyncio.Event, on_load: Callable[[ServerLoad], object]
) -> AsyncIterator[None]:
    """Once `started` is set, `on_load` gets the server's load every second, its moment by `time.perf_counter()`.

    A server that does not offer its status (ServerStatus of headrace.v1), or not to us, is asked once. One that does
    not answer is asked again.
    """
    task = asyncio.create_task(_watch(settings, model, started, on_load))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(
    settings: ConnectionSettings, model: str, started: asyncio.Event, on_load: Callable[[ServerLoad], object]
) -> None:
    await started.wait()
    async with hc.Server(settings) as server:
        while True:
            with suppress(HeadraceError):
                try:
                    async with asyncio.timeout(INTERVAL_SECONDS):
                        status = await server.status()
                    on_load(server_load(status, model, time.perf_counter()))
                except (Unimplemented, PermissionDenied):
                    return
                except TimeoutError:
                    continue
            await asyncio.sleep(INTERVAL_SECONDS)


def server_load(status: ServerStatus, model: str, moment: float) -> ServerLoad:
    """The part of a status that matters for a load on one model, all its versions together."""
    models = [each for each in status.models if each.name == model]
    running = sum(each.slots_running for each in models)
    return ServerLoad(
        moment,
        status.resident_bytes,
        status.tickets_in_flight,
        sum(each.tickets_queued for each in models),
        running,
        running + sum(each.slots_free + each.slots_stopping + each.slots_restoring for each in models),
    )
