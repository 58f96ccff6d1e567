"""The server's life: load, serve until told to stop, drain, stop. The only place where the parts meet."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

from headrace.server.control import Control, Load
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatch import Dispatch
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.fronts.health import HEALTH, HealthFront, health_service
from headrace.server.fronts.oip.service import open_inference_service
from headrace.server.fronts.oip.shared_memory import Regions
from headrace.server.fronts.service import inference_service
from headrace.server.fronts.transport import grpc_server
from headrace.server.polling import PollingLoop, PollingSelector
from headrace.server.repository.labels import labels_beside
from headrace.server.repository.named import NamedModel, NamedModelError, named_models
from headrace.server.settings import Settings, as_properties
from headrace.wire.errors import HeadraceError
from headrace.wire.memory import give_back_memory, keep_freed_memory

LOADED_NO_MODEL = 3
CANNOT_LISTEN = 4
SERVICES = ("headrace.v1.Inference", "inference.GRPCInferenceService")
"""Those of the server's own business: with the whole server, they are what health is asked for beside models."""

STOP_SECONDS = 5.0
"""How long streams may take to end once nothing is left to finish."""

IDLE_SECONDS = 10.0
"""After so long without anything to do the memory that was used goes back to the system."""

logger = logging.getLogger(__name__)


def run(models: Sequence[str], settings: Settings) -> int:
    """Serve until a signal says stop. Returns the exit code."""
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
    try:
        selector = PollingSelector(settings.busy_poll)
        with asyncio.Runner(loop_factory=lambda: PollingLoop(selector)) as runner:
            return runner.run(_serve(core, engine, settings, selector, named, load))
    finally:
        engine.close()


async def _serve(
    core: Core,
    engine: OpenVinoEngine,
    settings: Settings,
    selector: PollingSelector,
    models: Sequence[NamedModel],
    load: Load,
) -> int:
    dispatch = Dispatch(core, engine)
    selector.watcher = dispatch
    health = HealthFront(("", *SERVICES, *(model.name for model in models)))
    control = Control(models, load, core, dispatch.act, health.set, allowed=settings.model_control)
    regions = Regions() if settings.shared_memory else None
    server = grpc_server(
        (
            inference_service(dispatch),
            open_inference_service(dispatch, control, regions),
            health_service(health),
        ),
        (*SERVICES, HEALTH),
        calls=settings.streams,
        max_message_bytes=settings.max_message_bytes,
        compression=settings.compression,
    )
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        where = f"{settings.host}:{settings.port}"
        print(f"headrace-server: cannot listen on {where}; is something else there?", file=sys.stderr)
        return CANNOT_LISTEN
    stop = _signals()
    await server.start()
    _keep_from_collection()
    tidying = asyncio.create_task(_tidy(dispatch))
    print(f"headrace ready on {settings.host}:{port} ({len(core.models)} models)", flush=True)
    await stop.get()
    logger.info("draining %r", core)
    health.drain()
    core.drain(dispatch.now())
    dispatch.act()
    ending = asyncio.ensure_future(server.stop(settings.grace + STOP_SECONDS))
    again = asyncio.ensure_future(stop.get())
    await asyncio.wait((ending, again), return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if not ending.done():
        code = 128 + again.result()
        await server.stop(None)
    again.cancel()
    await ending
    tidying.cancel()
    dispatch.close()
    if regions is not None:
        regions.close()
    return code


def _keep_from_collection() -> None:
    """Have the garbage collector never look again at what is there by now, modules above all.

    It held the event loop up for 17 ms after each few thousand unary calls, which leave it something to look for.
    """
    gc.collect()
    gc.freeze()


async def _tidy(dispatch: Dispatch) -> None:
    """Give memory back when nothing has happened for a while."""
    given_back = True
    while True:
        dispatch.rested = True
        await asyncio.sleep(IDLE_SECONDS)
        if dispatch.rested and not given_back:
            give_back_memory()
        given_back = dispatch.rested


def _signals() -> asyncio.Queue[int]:
    """The signals that ask the server to stop, in order."""
    received: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, received.put_nowait, int(number))
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
        gather=settings.gather == "auto",
    )
