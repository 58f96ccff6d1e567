"""Runs a job while showing it, recording it, and letting Ctrl-C end it early."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from headrace.client.load.formatting import counted
from headrace.client.load.record.record_file import RecordWriter
from headrace.client.load.record.run import Run, RunSettings, ServerLoad
from headrace.client.load.report.rate_search import RateSearch
from headrace.client.load.watching.live_view import LiveView
from headrace.client.load.watching.server_watch import watched_server
from headrace.client.load.workers.messages import (
    Job,
    PhaseFinished,
    PhaseStarted,
    RunDescription,
    RunEvent,
    SampleBatch,
)
from headrace.client.load.workers.pool import WorkerPool
from headrace.client.terminal.usage_error import UsageError

REFRESH_SECONDS = 0.1


async def run_watched(job: Job, record: Path | None, search: RateSearch | None = None) -> Run | None:
    """Run a job, or a search for a rate; Ctrl-C interrupts its last phase. None if it came before any had started.

    Raises HeadraceError and UsageError.
    """
    with ExitStack() as stack:
        watcher = _Watcher(job, record, search, stack)
        pool = WorkerPool(job, watcher.on_event, search.next_phase if search else None)
        watched = watched_server(job.connection, job.request.model, watcher.started, watcher.on_server_load)
        async with _stopped_by_interrupt(pool), _refreshing(watcher.view), watched:
            outcomes = await pool.run()
        return Run(watcher.settings, outcomes) if watcher.settings is not None and outcomes else None


class _Watcher:
    """Passes the events of a run on to the live view and the record."""

    def __init__(self, job: Job, record: Path | None, search: RateSearch | None, stack: ExitStack) -> None:
        self._job = job
        self._search = search
        self._file = None if record is None else stack.enter_context(_open_for_appending(record))
        self._writer: RecordWriter | None = None
        self.view = stack.enter_context(LiveView(None if search else len(job.phases)))
        self.settings: RunSettings | None = None
        self.started = asyncio.Event()
        """A phase has started, so the server can be reached."""
        self._phase: PhaseStarted | None = None
        self._server_loads: list[ServerLoad] = []

    def on_event(self, event: RunEvent) -> None:
        writer = self._writer
        match event:
            case RunDescription():
                self.settings = run_settings(self._job, event, self._search)
                if self._file is not None:
                    self._file.truncate(0)
                    self._writer = RecordWriter(self._file, self.settings)
            case PhaseStarted(number, start, phase, began):
                self._phase = event
                self.started.set()
                self.view.start_phase(number, phase, start)
                if writer is not None:
                    writer.begin_phase(phase, began)
            case SampleBatch(number, samples):
                self.view.add(samples)
                if writer is not None:
                    writer.add(number, samples)
            case PhaseFinished(number, outcome, warmup_failures):
                outcome.server_loads, self._server_loads, self._phase = self._server_loads, [], None
                if writer is not None:
                    writer.end_phase(number, outcome)
                if warmup_failures:
                    self.view.print_message(f"{counted(warmup_failures, 'request')} failed during the warm-up")

    def on_server_load(self, load: ServerLoad) -> None:
        """Keep what the server said in the measured part of a phase."""
        phase = self._phase
        if phase is None or load.moment < phase.start:
            return
        load = replace(load, moment=load.moment - phase.start)
        self._server_loads.append(load)
        if self._writer is not None:
            self._writer.add_server_load(phase.phase, load)


def _open_for_appending(record: Path) -> TextIO:
    """An old record stays intact until there is something to write, so that a server that is down does not cost it."""
    try:
        return record.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{record} cannot be written: {error.strerror or error}") from None


@asynccontextmanager
async def _stopped_by_interrupt(pool: WorkerPool) -> AsyncIterator[None]:
    """The first Ctrl-C ends the run, and what was measured is reported; a second one ends the command."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        pool.stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def _refreshing(view: LiveView) -> AsyncIterator[None]:
    async def refresh() -> None:
        while True:
            view.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    task = asyncio.create_task(refresh())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def run_settings(job: Job, description: RunDescription, search: RateSearch | None) -> RunSettings:
    """The settings of a run that starts now."""
    request, model = job.request, description.model
    return RunSettings(
        target=job.connection.target,
        model=model.name,
        version=model.version,
        protocol=job.protocol,
        mode=job.mode,
        streams=job.streams,
        window=job.window,
        processes=job.processes,
        inputs=description.inputs,
        outputs=request.outputs,
        keep=request.keep,
        timeout=request.timeout,
        priority=request.priority,
        seed=job.seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        client=version("headrace"),
        server=description.server,
        cpus=os.cpu_count() or 1,
        repeat=job.repeat,
        search=None if search is None else search.condition.text,
    )
