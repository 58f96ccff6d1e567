"""The life of the process: listen, load models, serve until a signal, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from headrace.server.access import Access, read_access
from headrace.server.composition import Application, Scanner
from headrace.server.core.core import Core
from headrace.server.engine.decoding.decoder import MEMORY_BYTES
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.exit_codes import EXIT_BAD_OPTION, EXIT_MODEL_NOT_LOADED
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import Loader
from headrace.server.memory_guard import MemoryGuard
from headrace.server.presence import Alone, CannotServeError, Opening, Presence
from headrace.server.process_memory import available_bytes
from headrace.server.repository.scan import Disk, UnreadableRepositoryError
from headrace.server.repository.source import SourceError
from headrace.server.returned_memory import return_memory
from headrace.server.security.guard import Guard
from headrace.server.security.reloaded_files import UnusableFileError
from headrace.server.settings import Settings
from headrace.server.signals import LAST_SECONDS, Signals, leave
from headrace.server.telemetry.logging import Log, start_logging
from headrace.server.transport.choice import NoTransportError, choose_transport
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.interface import Server, Transport
from headrace.server.transport.options import ServerOptions
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError
from headrace.wire.memory import keep_freed_memory

if TYPE_CHECKING:
    from headrace.server.telemetry.tracing import Tracing

STOP_SECONDS = 0.5
"""The time for connections to close once no stream is left, and then for the runtime to stop."""
DECODING_SHARE = 4
"""Images that are decoded take up to this part of `--memory`, beside it."""
HANG_SECONDS = 5.0
"""The time after the grace period when a server that has still not ended is forced to end."""

logger = logging.getLogger(__name__)


def run(disk: Disk, settings: Settings) -> int:
    """Serve until a signal asks the server to stop. Returns the exit code."""
    return run_as(Alone(disk), disk, settings)


def run_as(presence: Presence, disk: Scanner, settings: Settings) -> int:
    """The same for a server that shows itself in another way, as one of several."""
    signals = Signals()
    log = start_logging(settings.log_level, settings.log_format, presence.number)
    try:
        access = read_access(settings)
    except UnusableFileError as error:
        log.say(f"{error}")
        return EXIT_BAD_OPTION
    try:
        new_tracing = _tracing(settings)
    except ModuleNotFoundError:
        log.say("--trace-endpoint needs another extra. Install it with: pip install 'headrace[tracing]'")
        return EXIT_BAD_OPTION
    keep_freed_memory()
    core = Core(settings.limits())
    engine = OpenVinoEngine(min(MEMORY_BYTES, core.limits.memory // DECODING_SHARE))

    try:
        cache = Cache(settings.cache_dir) if settings.cache_dir is not None else None
    except OSError as error:
        log.say(f"--cache-dir {str(settings.cache_dir)!r}: {error.strerror}")
        return EXIT_BAD_OPTION
    guard = MemoryGuard(core.limits.memory, available_bytes() // presence.count)
    loader = Loader(engine, guard.loading, settings.load_timeout, presence.cache(cache))
    try:
        transport = choose_transport(settings.transport, settings.busy_poll)
    except NoTransportError as error:
        log.say(f"--transport: {error}")
        return EXIT_BAD_OPTION
    tracing = new_tracing() if new_tracing is not None else None
    parts = _Parts(core, engine, settings, access, transport, disk, loader, guard, signals, log, tracing, presence)
    try:
        with asyncio.Runner(loop_factory=transport.new_loop) as runner:
            result = runner.run(_serve(parts))
    finally:
        closed = _close(engine)
        if tracing is not None:
            tracing.close()
    if not (closed and result.clean):
        # At its end, the interpreter would wait for threads that cannot be stopped, or free memory that they use.
        leave(result.code)
    return result.code


def _tracing(settings: Settings) -> Callable[[], Tracing] | None:
    """What makes the tracer, if requests are traced. Raises ModuleNotFoundError where the extra is not installed."""
    if settings.trace_endpoint is None:
        return None
    from headrace.server.telemetry.tracing import Tracing

    return partial(Tracing, settings.trace_endpoint, settings.trace_sample)


def _close(engine: OpenVinoEngine) -> bool:
    """Close the engine. Returns False if it still waits for a run that the runtime does not stop."""
    closing = threading.Thread(target=engine.close, name="closing", daemon=True)
    closing.start()
    closing.join(STOP_SECONDS)
    return not closing.is_alive()


class _Parts(NamedTuple):
    """What there is before the event loop."""

    core: Core
    engine: OpenVinoEngine
    settings: Settings
    access: Access
    transport: Transport
    disk: Scanner
    loader: Loader
    guard: MemoryGuard
    signals: Signals
    log: Log
    tracing: Tracing | None
    presence: Presence

    def application(self) -> Application:
        has_room, control = self.guard.has_room, self.presence.control
        return Application(
            self.core, self.engine, self.disk, self.loader, self.settings, has_room, self.tracing, control
        )


class _Result(NamedTuple):
    """The exit code, and whether nothing is left that would delay the end of the process."""

    code: int
    clean: bool


async def _serve(parts: _Parts) -> _Result:
    application = parts.application()
    settings, presence, loader = parts.settings, parts.presence, parts.loader
    dispatcher = application.dispatcher
    parts.transport.selector.watcher = dispatcher
    receiving, entrance = Receiving(), Entrance(parts.access.guard.door if parts.access.guard is not None else None)
    options = ServerOptions.of(
        settings, application.max_calls, parts.core.models.longest_wait, shared_port=presence.number > 0
    )
    services = presence.services(application)
    server = parts.transport.server(services, entrance, application.status_of, receiving, options)
    opening = Opening(application, server, settings, parts.access, parts.transport.name)
    try:
        await presence.begin(opening)
    except CannotServeError as error:
        parts.log.say(f"{error}")
        return _Result(error.code, clean=True)
    received = _stop_signals(parts.signals, settings.drain_delay + settings.grace + HANG_SECONDS)
    follow = partial(_follow_identities, parts.access.guard, entrance, application)
    presence.follow(parts.access, partial(_call_soon, asyncio.get_running_loop(), follow))
    parts.guard.start(lambda: (0, "") if application.pruning.drop() else receiving.end_some())
    tasks = [
        asyncio.create_task(return_memory(dispatcher, parts.engine.release_memory)),
        asyncio.create_task(application.pruning.run()),
    ]
    code = 0
    first = asyncio.create_task(received.get())
    starting = asyncio.create_task(_start(presence, opening, loader))
    await asyncio.wait((first, starting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        code = 128 + first.result()
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())
    elif isinstance(problem := starting.exception(), CannotServeError):
        parts.log.say(f"{problem}")
        code = problem.code
        first.cancel()
    else:
        starting.result()
        await first
    stopping = asyncio.create_task(
        _stop(application, server, loader, settings.grace, 0.0 if code else settings.drain_delay)
    )
    second = asyncio.create_task(received.get())
    await asyncio.wait((stopping, second), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await asyncio.wait([asyncio.create_task(server.stop(None))], timeout=LAST_SECONDS / 2)
        leave(128 + second.result())
    second.cancel()
    for task in tasks:
        task.cancel()
    parts.guard.stop()
    parts.access.stop()
    presence.end()
    application.close()
    return _Result(code, clean=stopping.result())


def _follow_identities(guard: Guard | None, entrance: Entrance, application: Application) -> None:
    """There are other identities: end what may not go on, and let go of what belongs to nobody any more."""
    entrance.ask_again()
    names = None if guard is None else guard.names()
    if names is not None:
        application.keep_only(names)


async def _start(presence: Presence, opening: Opening, loader: Loader) -> None:
    """Load the models, one after another, and serve. Raises CannotServeError."""
    application, settings = opening.application, opening.settings
    try:
        scan = await application.lifecycle.scan()
        await application.lifecycle.start(scan)
    except (SourceError, UnreadableRepositoryError, HeadraceError) as error:
        logger.debug("a model could not be loaded", exc_info=error)
        raise CannotServeError(str(error), EXIT_MODEL_NOT_LOADED) from error
    finally:
        loader.discard_spare()
    if not len(application.core.models) and not (settings.watch or settings.model_control):
        raise CannotServeError("no model could be loaded", EXIT_MODEL_NOT_LOADED)
    _exempt_from_collection()
    await presence.loaded(opening, scan)


async def _stop(application: Application, server: Server, loader: Loader, grace: float, delay: float) -> bool:
    """Report not ready, drain after a delay, and stop. Returns False if something is left that cannot be stopped."""
    application.health.withdraw()
    if delay:
        logger.info("no longer ready; draining starts in %g s", delay)
        await asyncio.sleep(delay)
    streams = application.core.streams
    in_flight = sum(stream.in_flight for stream in streams)
    logger.info("draining: %d streams are open, with %d tickets in flight", len(streams), in_flight)
    application.drain()
    loader.close()
    await application.drained(grace)
    # This closes the port, so it is last: until then probes are answered, and other calls learn that the server stops.
    stopping = asyncio.create_task(server.stop(STOP_SECONDS))
    await asyncio.wait([stopping], timeout=2 * STOP_SECONDS)
    return stopping.done() and not application.loading


def _exempt_from_collection() -> None:
    """Exempt the objects that exist at this point, mostly modules, from garbage collection.

    A collection held up the event loop for 17 ms after every few thousand unary calls, which leave garbage behind.
    """
    gc.collect()
    gc.freeze()


def _stop_signals(signals: Signals, seconds: float) -> asyncio.Queue[int]:
    """A queue of the signals that ask the server to stop. The process is ended `seconds` after the first one."""
    received: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        _call_soon(loop, lambda: received.put_nowait(number))

    signals.serve(stop, seconds)
    return received


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """From another thread. The loop may be closed, when the server is ending anyway."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
