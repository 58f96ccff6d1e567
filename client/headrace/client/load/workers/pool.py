"""The worker processes of a load test, seen from their parent.

Workers are spawned, never forked, so that they do not inherit what the parent has imported: gRPC's threads, other stubs
of the same protocol. Each has a pipe; when it is closed, the process at the other end is gone.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import Samples
from headrace.client.load.record.spool import SampleSpool
from headrace.client.load.workers.messages import (
    FromWorker,
    Job,
    PhaseFinished,
    PhaseStarted,
    RunEvent,
    SampleBatch,
    StartPhase,
    Stop,
    ToWorker,
    WorkerFailed,
    WorkerFinished,
    WorkerReady,
)
from headrace.client.load.workers.worker import worker_main
from headrace.wire.errors import Internal

START_LEAD_SECONDS = 0.2
"""How far ahead the start of a phase is set, so that every worker knows it in time."""
EXIT_TIMEOUT_SECONDS = 5.0
"""How long workers have to exit by themselves."""


NextPhase = Callable[[Sequence[Outcome]], Phase | None]
"""The phase to run after those with these outcomes; None ends the run."""


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection


class WorkerPool:
    """Runs a job once, with `await pool.run()`; `pool.stop()` ends it early. `on_event` gets the events of the run.

    The phases are those of the job, or those that `next_phase` chooses.
    """

    def __init__(self, job: Job, on_event: Callable[[RunEvent], object], next_phase: NextPhase | None = None) -> None:
        self._job = job
        self._on_event = on_event
        self._next_phase = next_phase or _one_after_the_other(job.phases)
        self._stopped = False
        self._workers: list[_Worker] = []
        self._received: asyncio.Queue[tuple[_Worker, FromWorker | None] | None] = asyncio.Queue()
        """Messages with their workers; a message of None means that the worker is gone, an item of None that the pool
        was stopped."""

    async def run(self) -> list[Outcome]:
        """The outcome of each phase that has started. Raises HeadraceError and UsageError."""
        outcomes: list[Outcome] = []
        try:
            self._start_workers()
            await self._wait_until_ready()
            while not self._stopped and (phase := self._next_phase(outcomes)) is not None:
                outcomes.append(await self._run_phase(len(outcomes), phase))
        finally:
            await self._end_workers()
        return outcomes

    def stop(self) -> None:
        """End soon: the current phase is interrupted, and no other follows."""
        self._stopped = True
        self._received.put_nowait(None)
        self._send_to_all(Stop())

    def _start_workers(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        loop = asyncio.get_running_loop()
        for index in range(self._job.processes):
            pipe, workers_end = spawn.Pipe()
            name = f"headrace load {index}"
            process = spawn.Process(target=worker_main, args=(self._job, index, workers_end), name=name, daemon=True)
            with _interrupts_blocked(), _grpc_log_silenced():
                process.start()
            workers_end.close()
            worker = _Worker(process, pipe)
            self._workers.append(worker)
            loop.add_reader(pipe.fileno(), self._receive, worker)

    def _receive(self, worker: _Worker) -> None:
        try:
            self._received.put_nowait((worker, worker.pipe.recv()))
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(worker.pipe.fileno())
            self._received.put_nowait((worker, None))

    async def _next_message(self) -> FromWorker | None:
        """The next message of any worker; None when the pool was stopped. Raises the error that ends the run."""
        item = await self._received.get()
        if item is None:
            return None
        worker, message = item
        if message is None:
            raise await self._exit_error(worker)
        if isinstance(message, WorkerFailed):
            raise message.error
        return message

    async def _exit_error(self, worker: _Worker) -> Internal:
        await asyncio.to_thread(worker.process.join, EXIT_TIMEOUT_SECONDS)
        code = worker.process.exitcode
        why = f"was killed by {_signal_name(-code)}" if code and code < 0 else f"exited with code {code}"
        return Internal(f"process {worker.process.pid} of the load test {why}")

    async def _wait_until_ready(self) -> None:
        """Wait until all workers are connected."""
        missing = len(self._workers)
        while missing and not self._stopped:
            message = await self._next_message()
            if isinstance(message, WorkerReady):
                if missing == len(self._workers):
                    self._on_event(message.description)
                missing -= 1

    async def _run_phase(self, number: int, phase: Phase) -> Outcome:
        ahead = START_LEAD_SECONDS + phase.warmup
        start, began = time.perf_counter() + ahead, time.time() + ahead
        self._send_to_all(StartPhase(number, start, phase))
        self._on_event(PhaseStarted(number, start, phase, began))
        spool = SampleSpool()
        finished: list[WorkerFinished] = []
        while len(finished) < len(self._workers):
            message = await self._next_message()
            if isinstance(message, SampleBatch):
                spool.add(message.samples)
                self._on_event(message)
            elif isinstance(message, WorkerFinished):
                finished.append(message)
        outcome = merge_results(phase, finished, spool.take(), interrupted=self._stopped)
        outcome.began = began
        self._on_event(PhaseFinished(number, outcome, sum(each.result.warmup_failures for each in finished)))
        return outcome

    def _send_to_all(self, message: ToWorker) -> None:
        for worker in self._workers:
            # If the worker is gone, receiving from it reports that.
            with suppress(OSError):
                worker.pipe.send(message)

    async def _end_workers(self) -> None:
        """Close all pipes, which makes the workers exit, and wait until they have."""
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            loop.remove_reader(worker.pipe.fileno())
            worker.pipe.close()
        for worker in self._workers:
            await asyncio.to_thread(worker.process.join, EXIT_TIMEOUT_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


def _one_after_the_other(phases: Sequence[Phase]) -> NextPhase:
    return lambda outcomes: phases[len(outcomes)] if len(outcomes) < len(phases) else None


def merge_results(phase: Phase, finished: Sequence[WorkerFinished], samples: Samples, *, interrupted: bool) -> Outcome:
    """The outcome of a phase in all processes together."""
    results = [each.result for each in finished]
    messages: dict[int, str] = {}
    for result in results:
        messages = result.messages | messages
    return Outcome(
        phase,
        planned=sum(result.planned for result in results),
        unsent=sum(result.unsent for result in results),
        elapsed=max(result.elapsed for result in results),
        samples=samples,
        messages=messages,
        server=next((each.server for each in finished if each.server is not None), None),
        interrupted=interrupted,
        tails=tuple(result.tail for result in results if result.tail is not None),
    )


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started inside never receive SIGINT: a Ctrl-C is for the parent, which then stops them."""
    # Otherwise it would be started along with the process, and unblock signals on the way.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _grpc_log_silenced() -> Iterator[None]:
    """gRPC does not log in processes started inside.

    What happens to a connection is in the samples, and a log would be written into the live view. gRPC reads the
    variable when it is loaded, before any code of ours runs.
    """
    before = os.environ.get("GRPC_VERBOSITY")
    os.environ["GRPC_VERBOSITY"] = before or "NONE"
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRPC_VERBOSITY"]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
