"""One process of a load test: it connects, reports that it is ready, and runs each phase when told to."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

from headrace.client.load.callers.caller import Caller, Inputs
from headrace.client.load.callers.connect import connect_callers, connect_totals, describe_model
from headrace.client.load.callers.model_totals import ModelTotals, ReadTotals, no_totals
from headrace.client.load.inputs.input_sets import request_inputs
from headrace.client.load.inputs.request_check import check_outputs, check_shapes
from headrace.client.load.planning.schedule import Share, split_evenly
from headrace.client.load.record.run import ServerMeans
from headrace.client.load.record.samples import SampleCollector
from headrace.client.load.sending.pacer import IdleTiming, new_precise_loop
from headrace.client.load.sending.run_phase import run_phase
from headrace.client.load.workers.messages import (
    FromWorker,
    Job,
    RunDescription,
    SampleBatch,
    StartPhase,
    ToWorker,
    WorkerFailed,
    WorkerFinished,
    WorkerReady,
)
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import HeadraceError, Internal

BATCH_INTERVAL_SECONDS = 0.1
"""Requests wait while samples are turned into columns, so a batch must be small: 0.2 ms at ten thousand per second."""


def worker_main(job: Job, index: int, pipe: Connection) -> None:
    """The main function of the process. Returns when the other side closes the pipe."""
    channels = split_evenly(job.streams, Share(index, job.processes))
    new_loop = partial(new_precise_loop, channels)
    with ThreadPoolExecutor(1) as sender, asyncio.Runner(loop_factory=new_loop) as runner:
        worker = Worker(job, index, pipe, sender)
        try:
            runner.run(worker.run())
        except asyncio.CancelledError:
            pass
        except (HeadraceError, UsageError) as error:
            worker.send(WorkerFailed(error))
        except Exception as error:
            what = "".join(traceback.format_exception_only(error)).strip()
            failure = Internal(f"a process of the load test failed: {what}")
            failure.add_note(traceback.format_exc())
            worker.send(WorkerFailed(failure))


class Worker:
    """Process `index` of a job.

    A thread writes its messages, since a full pipe must not hold up requests.
    """

    def __init__(self, job: Job, index: int, pipe: Connection, sender: ThreadPoolExecutor) -> None:
        self._job = job
        self._share = Share(index, job.processes)
        self._pipe = pipe
        self._sender = sender
        self._to_start: asyncio.Queue[StartPhase] = asyncio.Queue(1)
        self._stop = asyncio.Event()

    def send(self, message: FromWorker) -> None:
        self._sender.submit(self._pipe.send, message)

    async def run(self) -> None:
        """Run until cancelled, which happens when the pipe is closed. Raises HeadraceError and UsageError."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._receive, task)
        job, request = self._job, self._job.request
        model, server = await describe_model(job.connection, job.protocol, request.model, request.version)
        check_outputs(model, request)
        sets, texts = request_inputs(model, job.inputs, job.shapes, job.jsonl, job.seed)
        check_shapes(model, sets, job.protocol)
        # Together, the processes send one set after the other.
        inputs = itertools.islice(itertools.cycle(sets), self._share.index, None, self._share.processes)
        streams = split_evenly(job.streams, self._share)
        connection = job.connection.beginning_at(self._share.index)
        async with (
            connect_callers(connection, job.protocol, job.mode, streams, job.window, request) as callers,
            connect_totals(job.connection, job.protocol, request.model, request.version) as read_totals,
        ):
            # What exists now stays: the garbage collector need not scan it while requests wait.
            gc.collect()
            gc.freeze()
            if self._share.index != 0:
                read_totals = no_totals
            self.send(WorkerReady(RunDescription(model, server, texts)))
            while True:
                await self._run_phase(await self._to_start.get(), callers, inputs, read_totals)

    def _receive(self, task: asyncio.Task[None]) -> None:
        try:
            message: ToWorker = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            task.cancel()
            return
        if isinstance(message, StartPhase):
            self._to_start.put_nowait(message)
        else:
            self._stop.set()

    async def _run_phase(
        self, order: StartPhase, callers: Sequence[Caller], inputs: Iterator[Inputs], read_totals: ReadTotals
    ) -> None:
        job, collector, loop = self._job, SampleCollector(), asyncio.get_running_loop()
        batches = asyncio.create_task(self._send_batches(order.phase, collector))
        totals_before = asyncio.create_task(_totals_at(order.start, read_totals))
        result = await run_phase(
            order.plan,
            self._share,
            # Phases that repeat a load repeat it with other arrivals.
            job.seed + order.phase,
            order.start,
            callers,
            job.window,
            inputs,
            collector,
            job.patience,
            self._stop,
            idle=cast(IdleTiming, loop).idle_seconds,
        )
        batches.cancel()
        await asyncio.wait([batches])
        self.send(WorkerFinished(order.phase, result, await _server_means(totals_before, read_totals)))

    async def _send_batches(self, phase: int, collector: SampleCollector) -> None:
        """Send a batch at intervals until cancelled, and then the last one."""
        try:
            while True:
                await asyncio.sleep(BATCH_INTERVAL_SECONDS)
                self.send(SampleBatch(phase, collector.take()))
        finally:
            self.send(SampleBatch(phase, collector.take()))


async def _totals_at(moment: float, read_totals: ReadTotals) -> ModelTotals | None:
    await asyncio.sleep(moment - time.perf_counter())
    return await read_totals()


async def _server_means(before: asyncio.Task[ModelTotals | None], read_totals: ReadTotals) -> ServerMeans | None:
    """The server's means since `before` was read."""
    if not before.done():
        before.cancel()
        return None
    totals, after = before.result(), await read_totals()
    return after.since(totals) if totals and after else None
