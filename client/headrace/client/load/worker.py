"""One process of a load test: it connects, says that it is ready, and attacks when it is told to."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from headrace.client.load.attack import attack
from headrace.client.load.calling import Caller, Inputs
from headrace.client.load.calling.opening import describe, open_callers, open_totals
from headrace.client.load.calling.totals import AskTotals, Totals, untold
from headrace.client.load.inputs import request_inputs
from headrace.client.load.orders import Batch, Begin, Described, Failed, Job, Order, Over, Ready, Report
from headrace.client.load.pacer import precise_loop
from headrace.client.load.plan import Share, concurrency_of
from headrace.client.load.run import Server
from headrace.client.load.samples import Collector
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import HeadraceError, Internal

BATCH_SECONDS = 0.1
"""Requests wait while columns are made of samples, so these are never many: 0.2 ms at ten thousand a second."""


def work(job: Job, index: int, pipe: Connection) -> None:
    """The whole life of the process: until the pipe is closed by the other side."""
    with ThreadPoolExecutor(1) as sender, asyncio.Runner(loop_factory=precise_loop) as runner:
        worker = Worker(job, index, pipe, sender)
        try:
            runner.run(worker.run())
        except asyncio.CancelledError:
            pass
        except (HeadraceError, UsageError) as error:
            worker.say(Failed(error))
        except Exception as error:
            what = "".join(traceback.format_exception_only(error)).strip()
            failure = Internal(f"a process of the load test has failed: {what}")
            failure.add_note(traceback.format_exc())
            worker.say(Failed(failure))


class Worker:
    """Process `index` of a job.

    What it says is sent by a thread, since a pipe that is full must not hold up requests.
    """

    def __init__(self, job: Job, index: int, pipe: Connection, sender: ThreadPoolExecutor) -> None:
        self._job = job
        self._share = Share(index, job.processes)
        self._pipe = pipe
        self._sender = sender
        self._begins: asyncio.Queue[Begin] = asyncio.Queue(1)
        self._stop = asyncio.Event()

    def say(self, report: Report) -> None:
        self._sender.submit(self._pipe.send, report)

    async def run(self) -> None:
        """Ends by being cancelled, when the pipe is closed. Raises HeadraceError and UsageError."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._listen, task)
        job, request = self._job, self._job.request
        model, server = await describe(job.target, job.protocol, request.model, request.version)
        sets, texts = request_inputs(model, job.inputs, job.shapes, job.jsonl, job.seed)
        # All processes together send one set after the other.
        inputs = itertools.islice(itertools.cycle(sets), self._share.index, None, self._share.number)
        streams = concurrency_of(job.streams, self._share)
        async with (
            open_callers(
                job.target, job.protocol, job.mode, streams, job.window, request, job.max_message_bytes
            ) as callers,
            open_totals(job.target, job.protocol, request.model, request.version) as ask,
        ):
            # What is there will stay: the collector of garbage need not look at it while requests wait.
            gc.collect()
            gc.freeze()
            self.say(Ready(Described(model, server, texts)))
            while True:
                await self._attack(await self._begins.get(), callers, inputs, ask if self._share.index == 0 else untold)

    def _listen(self, task: asyncio.Task[None]) -> None:
        try:
            order: Order = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            task.cancel()
            return
        if isinstance(order, Begin):
            self._begins.put_nowait(order)
        else:
            self._stop.set()

    async def _attack(self, order: Begin, callers: Sequence[Caller], inputs: Iterator[Inputs], ask: AskTotals) -> None:
        job, collector = self._job, Collector()
        telling = asyncio.create_task(self._tell(order.phase, collector))
        asking = asyncio.create_task(_ask_at(order.begin, ask))
        part = await attack(
            job.phases[order.phase],
            self._share,
            job.seed,
            order.begin,
            callers,
            job.window,
            inputs,
            collector,
            job.patience,
            self._stop,
        )
        telling.cancel()
        await asyncio.wait([telling])
        self.say(Over(order.phase, part, await _means(asking, ask)))

    async def _tell(self, phase: int, collector: Collector) -> None:
        """What comes last is told when this is cancelled."""
        try:
            while True:
                await asyncio.sleep(BATCH_SECONDS)
                self.say(Batch(phase, collector.take()))
        finally:
            self.say(Batch(phase, collector.take()))


async def _ask_at(moment: float, ask: AskTotals) -> Totals | None:
    await asyncio.sleep(moment - time.perf_counter())
    return await ask()


async def _means(asking: asyncio.Task[Totals | None], ask: AskTotals) -> Server | None:
    """What the server says of the time since it was asked first."""
    if not asking.done():
        asking.cancel()
        return None
    before, after = asking.result(), await ask()
    return after.since(before) if before and after else None
