"""A run that somebody looks at: shown while it lasts, recorded as it goes, and ended early by Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from headrace.client.load.crew import Crew
from headrace.client.load.live import Live
from headrace.client.load.orders import Batch, Began, Described, Job, News, PhaseOver
from headrace.client.load.record import Recorder
from headrace.client.load.report.formats import counted
from headrace.client.load.run import Run, Settings
from headrace.client.terminal.usage_error import UsageError

TICK = 0.1
"""Seconds."""


async def attend(job: Job, record: Path | None) -> Run | None:
    """A Ctrl-C interrupts the last phase of the run; None when it came before there was any.

    Raises HeadraceError and UsageError.
    """
    with ExitStack() as stack:
        watch = _Watch(job, record, stack)
        crew = Crew(job, watch.hear)
        async with _stopped_by_interrupt(crew), _ticking(watch.live):
            outcomes = await crew.run()
        return Run(watch.settings, outcomes) if watch.settings is not None and outcomes else None


class _Watch:
    def __init__(self, job: Job, record: Path | None, stack: ExitStack) -> None:
        self._job = job
        self._stack = stack
        self._file = None if record is None else stack.enter_context(_opened(record))
        self._recorder: Recorder | None = None
        self.live = stack.enter_context(Live(len(job.phases)))
        self.settings: Settings | None = None

    def hear(self, news: News) -> None:
        recorder = self._recorder
        match news:
            case Described():
                self.settings = settings_of(self._job, news)
                if self._file is not None:
                    self._file.truncate(0)
                    self._recorder = Recorder(self._file, self.settings)
            case Began(number, begin):
                self.live.begun(number, self._job.phases[number], begin)
                if recorder is not None:
                    recorder.begin(self._job.phases[number])
            case Batch(number, samples):
                self.live.add(samples)
                if recorder is not None:
                    recorder.add(number, samples)
            case PhaseOver(number, outcome, warmup_failures):
                if recorder is not None:
                    recorder.over(number, outcome)
                if warmup_failures:
                    self.live.say(f"{counted(warmup_failures, 'request')} of the warm-up failed")


def _opened(record: Path) -> TextIO:
    """What is in it stays until there is something to write: a server that is not there costs nobody an old record."""
    try:
        return record.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{record} cannot be written: {error.strerror or error}") from None


@asynccontextmanager
async def _stopped_by_interrupt(crew: Crew) -> AsyncIterator[None]:
    """The first Ctrl-C ends the run, and what was measured is reported; the next one ends the command."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        crew.stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def _ticking(live: Live) -> AsyncIterator[None]:
    async def tick() -> None:
        while True:
            live.tick()
            await asyncio.sleep(TICK)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def settings_of(job: Job, described: Described) -> Settings:
    """What a report says of a run that begins now."""
    request, model = job.request, described.model
    return Settings(
        target=job.target,
        model=model.name,
        version=model.version,
        protocol=job.protocol,
        mode=job.mode,
        streams=job.streams,
        window=job.window,
        processes=job.processes,
        inputs=described.inputs,
        outputs=request.outputs,
        keep=request.keep,
        timeout=request.timeout,
        priority=request.priority,
        seed=job.seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        client=version("headrace"),
        server=described.server,
        cpus=os.cpu_count() or 1,
    )
