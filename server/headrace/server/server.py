"""The server's life: load, serve until told to stop, drain, stop. The only place where the parts meet."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import grpc

from headrace.server.control import Control, Load
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.dispatcher.event_loop import PollingLoop, PollingSelector
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.repository.labels import labels_beside
from headrace.server.repository.named import NamedModel, NamedModelError, named_models
from headrace.server.services.gate import Gate
from headrace.server.services.health import HEALTH, HealthFront, health_service
from headrace.server.services.native.service import inference_service
from headrace.server.services.oip.service import open_inference_service
from headrace.server.services.oip.shared_memory import Regions
from headrace.server.services.reflection import reflection_service
from headrace.server.services.rpcs import Rpcs
from headrace.server.services.transport import grpc_server
from headrace.server.settings import Settings, as_properties
from headrace.server.signals import LAST_SECONDS, Signals, leave
from headrace.wire.errors import HeadraceError
from headrace.wire.memory import give_back_memory, keep_freed_memory

LOADED_NO_MODEL = 3
CANNOT_LISTEN = 4
SERVICES = ("headrace.v1.Inference", "inference.GRPCInferenceService")
"""Those of the server's own business: with the whole server, they are what health is asked for beside models."""

PROBES = 256
"""Probes that are answered at once, and as many watches, beside `--streams`."""
TAKEN_SECONDS = 1.0
"""How long clients may take, after the grace period, to be told what has become of their tickets."""
STOP_SECONDS = 0.5
"""How long connections may take to close once no stream is left, and then the runtime to let go."""
HUNG_SECONDS = 5.0
"""From the end of the grace period until a server that still has not ended is ended."""

IDLE_SECONDS = 10.0
"""After so long without anything to do the memory that was used goes back to the system."""

logger = logging.getLogger(__name__)


def run(models: Sequence[str], settings: Settings) -> int:
    """Serve until a signal says stop. Returns the exit code."""
    signals = Signals()
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    keep_freed_memory()
    properties = as_properties(settings.property)
    compilation = Compilation(settings.device, settings.run, settings.hint, properties, settings.slots, settings.batch)
    engine = OpenVinoEngine()
    core = Core(_limits(settings))

    def load(model: NamedModel) -> ModelSpec:
        return engine.load(model.name, model.version, model.path, compilation, labels_beside(model.path))

    try:
        named = named_models(models)
        for model in named:
            core.models.add(load(model))
            logger.info("loaded %r", core.models.find(model.name))
    except (NamedModelError, HeadraceError) as error:
        print(f"headrace-server: {error}", file=sys.stderr)
        logger.debug("why", exc_info=error)
        return LOADED_NO_MODEL
    selector = PollingSelector(settings.busy_poll)
    try:
        with asyncio.Runner(loop_factory=lambda: PollingLoop(selector)) as runner:
            end = runner.run(_serve(core, engine, settings, selector, named, load, signals))
    finally:
        closed = _closed(engine)
    if not (closed and end.clean):
        # The end of an interpreter would wait for what cannot be stopped, or pull the memory from under it.
        leave(end.code)
    return end.code


def _closed(engine: OpenVinoEngine) -> bool:
    """Close the engine; False when it still waits for a run that the runtime does not stop."""
    closing = threading.Thread(target=engine.close, name="closing", daemon=True)
    closing.start()
    closing.join(STOP_SECONDS)
    return not closing.is_alive()


@dataclass(slots=True)
class _Parts:
    """What the end of the server has to do with."""

    core: Core
    dispatcher: Dispatcher
    control: Control
    health: HealthFront
    calls: Gate
    watches: Gate
    transport: grpc.aio.Server
    regions: Regions | None


class _End(NamedTuple):
    """The exit code. `clean`: nothing is left that would hold up the end of the process."""

    code: int
    clean: bool


async def _serve(
    core: Core,
    engine: OpenVinoEngine,
    settings: Settings,
    selector: PollingSelector,
    models: Sequence[NamedModel],
    load: Load,
    signals: Signals,
) -> _End:
    dispatcher = Dispatcher(core, engine)
    selector.watcher = dispatcher
    parts = _assemble(core, dispatcher, settings, models, load)
    try:
        port = parts.transport.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        where = f"{settings.host}:{settings.port}"
        print(f"headrace-server: cannot listen on {where}; is something else there?", file=sys.stderr)
        return _End(CANNOT_LISTEN, clean=True)
    received = _received(signals, settings.drain_delay + settings.grace + HUNG_SECONDS)
    await parts.transport.start()
    _keep_from_collection()
    tidying = asyncio.create_task(_tidy(dispatcher))
    print(f"headrace ready on {settings.host}:{port} ({len(core.models)} models)", flush=True)
    await received.get()
    stopping = asyncio.create_task(_stop(parts, settings))
    again = asyncio.create_task(received.get())
    await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await asyncio.wait([asyncio.create_task(parts.transport.stop(None))], timeout=LAST_SECONDS / 2)
        leave(128 + again.result())
    again.cancel()
    tidying.cancel()
    dispatcher.close()
    if parts.regions is not None:
        parts.regions.close()
    return _End(0, clean=stopping.result())


def _assemble(
    core: Core, dispatcher: Dispatcher, settings: Settings, models: Sequence[NamedModel], load: Load
) -> _Parts:
    health = HealthFront(("", *SERVICES, *(model.name for model in models)))
    control = Control(models, load, core, dispatcher.act, health.set, allowed=settings.model_control)
    regions = Regions() if settings.shared_memory else None
    calls = Gate(settings.streams, f"{settings.streams} streams and unary calls are open, which is all that may be")
    watches = Gate(PROBES, f"{PROBES} watches are open, which is all that may be")
    probing = Gate(PROBES, f"{PROBES} probes are being answered, which is all that may be")
    rpcs, watching, probes = (Rpcs(dispatcher.incident, gate) for gate in (calls, watches, probing))
    transport = grpc_server(
        (
            inference_service(dispatcher, rpcs, probes),
            open_inference_service(dispatcher, control, regions, health.ready, rpcs, probes),
            health_service(health, probes, watching),
            reflection_service((*SERVICES, HEALTH), watching),
        ),
        calls=settings.streams + 2 * PROBES,
        max_message_bytes=settings.max_message_bytes,
        compression=settings.compression,
    )
    return _Parts(core, dispatcher, control, health, calls, watches, transport, regions)


async def _stop(parts: _Parts, settings: Settings) -> bool:
    """Say that no more work is wanted, drain, and stop. False when something is left that cannot be stopped."""
    parts.health.withdraw()
    if settings.drain_delay:
        logger.info("not ready any more, and draining in %g s", settings.drain_delay)
        await asyncio.sleep(settings.drain_delay)
    logger.info("draining %r", parts.core)
    parts.calls.shut()
    parts.watches.shut()
    parts.core.drain(parts.dispatcher.now())
    parts.dispatcher.act()
    parts.health.end()
    with suppress(TimeoutError):
        async with asyncio.timeout(settings.grace + TAKEN_SECONDS):
            await parts.calls.emptied()
    # This closes the port, so it comes last: until then probes are answered, and others are told that the server stops.
    stopping = asyncio.create_task(parts.transport.stop(STOP_SECONDS))
    await asyncio.wait([stopping], timeout=2 * STOP_SECONDS)
    return stopping.done() and not parts.control.loading


def _keep_from_collection() -> None:
    """Have the garbage collector never look again at what is there by now, modules above all.

    It held the event loop up for 17 ms after each few thousand unary calls, which leave it something to look for.
    """
    gc.collect()
    gc.freeze()


async def _tidy(dispatcher: Dispatcher) -> None:
    """Give memory back when nothing has happened for a while."""
    given_back = True
    while True:
        dispatcher.rested = True
        await asyncio.sleep(IDLE_SECONDS)
        if dispatcher.rested and not given_back:
            give_back_memory()
        given_back = dispatcher.rested


def _received(signals: Signals, seconds: float) -> asyncio.Queue[int]:
    """The signals that ask the server to stop, in order; so long after the first it has ended."""
    received: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: the end is near anyway
            loop.call_soon_threadsafe(received.put_nowait, number)

    signals.serve(stop, seconds)
    return received


def _limits(settings: Settings) -> Limits:
    return Limits(
        window=settings.window,
        max_message_bytes=settings.max_message_bytes,
        queue_bytes=settings.queue_bytes,
        unsent_bytes=settings.unsent_bytes,
        keep_bytes=settings.keep_bytes,
        keep_bytes_total=settings.keep_bytes_total,
        keep_seconds=settings.keep_seconds,
        grace=settings.grace,
        batch_delay=settings.batch_delay,
        coalesce=settings.coalesce == "auto",
    )
