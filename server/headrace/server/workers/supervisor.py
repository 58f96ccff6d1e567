"""The parent: it starts the workers, replaces those that end, and ends them all. It serves nothing itself."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

from headrace.server.access import Access, read_access
from headrace.server.exit_codes import EXIT_BAD_OPTION, EXIT_CANNOT_LISTEN
from headrace.server.metrics_port import MetricsPort
from headrace.server.repository.scan import Disk
from headrace.server.repository.watching import Changes, Watcher
from headrace.server.security.reloaded_files import UnusableFileError
from headrace.server.settings import Settings
from headrace.server.telemetry.logging import Log, start_logging
from headrace.server.telemetry.output import Output, descriptor_of
from headrace.server.transport.addresses import CannotListenError, is_local
from headrace.server.workers import order as orders
from headrace.server.workers.group import Group
from headrace.server.workers.link import Link
from headrace.server.workers.metrics import AnswersOfAll, ReadingsOfAll
from headrace.server.workers.order import Joined, Order
from headrace.server.workers.port import HeldPort
from headrace.server.workers.shares import Processors, share_of_settings

COMMAND = (sys.executable, "-P", "-m", "headrace.server.workers")
MIN_PAUSE, MAX_PAUSE = 0.25, 30.0
"""Seconds before a worker is replaced: twice as many each time, until one has lived for STABLE_SECONDS."""
STABLE_SECONDS = 60.0
LAST_SECONDS = 5.0 + 2.0
"""What a worker may take to end beyond `--drain-delay` and `--grace`, which it sees to itself."""

logger = logging.getLogger(__name__)


class Worker:
    """A process, from its start to its end. `told`: it is told of changes of models. `joined`: it listens."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.told = False
        self.joined = asyncio.Event()
        self.says = Joined("", "")
        self.process: asyncio.subprocess.Process
        self.link: Link

    async def start(self, closed: Any) -> None:
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # what a terminal sends is for the parent alone
                )
            except OSError:
                ours.close()
                raise
        self.link = Link(ours, closed)

    @property
    def serves(self) -> bool:
        return self.joined.is_set()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def __repr__(self) -> str:
        return f"<Worker {self.number}, {'joined' if self.joined.is_set() else 'starting'}>"


def supervise(disk: Disk, settings: Settings) -> int:
    """Serve with workers until a signal asks the server to stop. Returns the exit code."""
    log = start_logging(settings.log_level, settings.log_format)
    try:
        access = read_access(settings)
    except UnusableFileError as error:
        log.say(f"{error}")
        return EXIT_BAD_OPTION
    try:
        port = HeldPort(settings.host, settings.port)
    except CannotListenError as error:
        log.say(f"{error}")
        return EXIT_CANNOT_LISTEN
    if not is_local(settings.host):
        access.warn_of_exposure(port.addresses.shown)
    return asyncio.run(Supervisor(disk, settings, access, port, log).run())


class Supervisor:
    def __init__(self, disk: Disk, settings: Settings, access: Access, port: HeldPort, log: Log) -> None:
        self._disk = disk
        self._settings = settings
        self._access = access
        self._port = port
        self._log = log
        self._count = settings.workers
        self._processors = Processors.divided(settings.workers)
        self._workers: list[Worker] = []
        """Those that live."""
        self._group = Group(disk, self._workers, settings.load_timeout)
        self._ready = asyncio.Event()
        """Set when all have joined for the first time."""
        self._readings = ReadingsOfAll(self._workers)
        self._stopping = asyncio.Event()
        self._signals: list[int] = []
        self._loop: asyncio.AbstractEventLoop
        self._output = Output(descriptor_of(sys.stdout), "standard output")

    async def run(self) -> int:
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            self._open_metrics_port()
        except CannotListenError as error:
            self._log.say(f"--metrics-port: {error}")
            return EXIT_CANNOT_LISTEN
        try:
            code = await self._start()
        except OSError as error:
            self._log.say(f"a worker cannot be started: {error}")
            code = 1
        if code is None:
            models = self._workers[0].says.models
            self._ready.set()
            self._output.write(f"headrace ready on {self._port.addresses.shown} ({models})")
            watcher = self._watch() if self._settings.watch else None
            self._access.start(self._on_access, self._on_access)
            keeping = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
            await self._stopping.wait()
            if watcher is not None:
                watcher.stop()
            self._access.stop()
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            code = await self._drain()
        else:
            await self._kill()
        self._port.close()
        return code

    def _open_metrics_port(self) -> None:
        """Raises CannotListenError."""
        settings = self._settings
        if settings.metrics_port is not None:
            answers = AnswersOfAll(self._readings, self._is_ready, self._transport)
            port = MetricsPort(answers, settings.metrics_host, settings.metrics_port)
            self._output.write(f"headrace metrics on {port.url}")

    def _is_ready(self) -> bool:
        """Whether the server wants work: at least one worker serves, after all have."""
        serves = any(worker.serves for worker in self._workers)
        return self._ready.is_set() and serves and not self._stopping.is_set()

    def _transport(self) -> str:
        return next((worker.says.transport for worker in self._workers), "")

    # --------------------------------------------------------------------------------------------------------- start

    async def _start(self) -> int | None:
        """Start the first worker, which tries the models, then the others. Returns an exit code if one ends."""
        if self._count > len(os.sched_getaffinity(0)):
            logger.warning("there are more workers than processors, which makes them slower")
        for numbers in ([1], range(2, self._count + 1)):
            code = await self._start_some(numbers)
            if code is not None:
                return code
        return None

    async def _start_some(self, numbers: Sequence[int]) -> int | None:
        try:
            workers = [await self._spawn(number) for number in numbers]
        except OSError as error:
            self._log.say(f"a worker cannot be started: {error.strerror}")
            return 1
        stopping = asyncio.create_task(self._stopping.wait())
        ends = [asyncio.create_task(worker.process.wait()) for worker in self._workers]
        joined = asyncio.create_task(_all_joined(workers))
        await asyncio.wait((stopping, joined, *ends), return_when=asyncio.FIRST_COMPLETED)
        code = None
        if stopping.done():
            code = 128 + self._signals[0]
        elif not joined.done():
            code = next(end.result() for end in ends if end.done())
            code = 128 - code if code < 0 else code or 1
        for task in (stopping, joined, *ends):
            task.cancel()
        return code

    async def _spawn(self, number: int) -> Worker:
        """Raises OSError."""
        worker = Worker(number)
        await worker.start(lambda: None)
        self._workers.append(worker)
        worker.link.answer_with(partial(self._answer, worker))
        worker.link.start()
        return worker

    async def _answer(self, worker: Worker, kind: str, content: Any) -> Any:
        """What a worker asks."""
        group = self._group
        if kind == orders.HELLO:
            settings = share_of_settings(self._settings, self._count)
            return Order(worker.number, self._count, settings, self._port.addresses, self._processors)
        if kind == orders.SCAN:
            return await group.begin(worker)
        if kind == orders.JOINED:
            worker.says = content
            worker.joined.set()
            if self._ready.is_set():
                logger.info("worker %d is back", worker.number)
            return await self._ready.wait()
        if kind == orders.FINDINGS:
            return group.findings(content)
        if kind == orders.KEEP:
            return group.keep(*content)
        if kind == orders.TURN:
            return group.try_turn(worker)
        if kind == orders.TURN_OVER:
            return group.turn_over(worker)
        if kind == orders.LOAD:
            return await group.load(content)
        if kind == orders.UNLOAD:
            return await group.unload(content)
        if kind == orders.PEERS:
            return await group.ask_peers(worker, content)
        if kind == orders.COMMAND:
            return await group.command(*content)
        raise RuntimeError(f"the parent does not answer {kind!r}")

    def _on_access(self) -> None:
        """Files that say who may call have changed. On a thread."""
        asyncio.run_coroutine_threadsafe(self._group.read_again(), self._loop)

    def _watch(self) -> Watcher:
        def apply(changes: Changes) -> None:
            asyncio.run_coroutine_threadsafe(self._group.refresh(changes), self._loop).result()

        watcher = Watcher(self._disk, self._group.known, apply)
        watcher.start()
        return watcher

    # ------------------------------------------------------------------------------------------------------- replace

    async def _keep(self, worker: Worker) -> None:
        """Replace a worker whenever it ends."""
        pause = MIN_PAUSE
        while True:
            began = monotonic()
            code = await worker.process.wait()
            self._gone(worker)
            if monotonic() - began > STABLE_SECONDS:
                pause = MIN_PAUSE
            logger.error("worker %d has ended (%s); it is replaced in %.2g s", worker.number, _how(code), pause)
            while True:
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE, 2 * pause * random.uniform(0.9, 1.1))
                try:
                    if not self._settings.watch:
                        await self._group.catch_up()
                    worker = await self._spawn(worker.number)
                    break
                except OSError as error:
                    logger.error("worker %d cannot be started: %s", worker.number, error)
                except Exception:  # whatever it is, the next attempt may succeed, and without one nobody serves
                    logger.exception("worker %d cannot be started", worker.number)

    def _gone(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._group.turn_over(worker)
        self._readings.gone(worker)
        worker.link.close()

    # ----------------------------------------------------------------------------------------------------------- end

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        self._stopping.set()
        if len(self._signals) > 1:
            for worker in self._workers:
                worker.signal(number)

    async def _drain(self) -> int:
        """Let all workers end. Returns the exit code."""
        logger.info("stopping %d workers", len(self._workers))
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        seconds = self._settings.drain_delay + self._settings.grace + LAST_SECONDS
        workers = [*self._workers]
        waiting = asyncio.gather(*(worker.process.wait() for worker in workers))
        try:
            async with asyncio.timeout(seconds if seconds < 1e9 else None):
                codes = await waiting
        except TimeoutError:
            await self._kill()
            return 1
        if len(self._signals) > 1:
            return 128 + self._signals[1]
        # One that has not joined serves nobody, so it does not matter how it ends: by the signal itself, for instance.
        served = [code for worker, code in zip(workers, codes, strict=True) if worker.joined.is_set()]
        return max((1 if code < 0 or code in (1, 2, 3, 4) else 0 for code in served), default=0)

    async def _kill(self) -> None:
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
        await asyncio.gather(*(worker.process.wait() for worker in self._workers))

    def __repr__(self) -> str:
        return f"<Supervisor of {self._workers}>"


async def _all_joined(workers: Sequence[Worker]) -> None:
    for worker in workers:
        await worker.joined.wait()


def _how(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
