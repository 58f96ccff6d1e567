"""All processes of a load test, as their parent sees them.

They are new processes, never forked: what this one has imported (gRPC's threads, other stubs of the same protocol) is
not in them. Each has a pipe; one that is closed means that the other side is gone.
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

from headrace.client.load.orders import (
    Batch,
    Began,
    Begin,
    Failed,
    Job,
    News,
    Order,
    Over,
    PhaseOver,
    Ready,
    Report,
    Stop,
)
from headrace.client.load.run import Outcome, Phase
from headrace.client.load.samples import Samples, joined
from headrace.client.load.worker import work
from headrace.wire.errors import Internal

LEAD = 0.2
"""Seconds until a phase begins in all processes: by then each has heard of it."""
LEAVING = 5.0
"""Seconds that processes get to end by themselves."""


class _Member(NamedTuple):
    process: SpawnProcess
    pipe: Connection


class Crew:
    """Runs a job once: `await crew.run()`, and `crew.stop()` for an early end. `tell` hears all that goes on."""

    def __init__(self, job: Job, tell: Callable[[News], object]) -> None:
        self._job = job
        self._tell = tell
        self._stopped = False
        self._members: list[_Member] = []
        self._heard: asyncio.Queue[tuple[_Member, Report | None] | None] = asyncio.Queue()
        """What each has said; None instead of a report when it is gone, and of all when the crew was stopped."""

    async def run(self) -> list[Outcome]:
        """What has come of each phase that has begun. Raises HeadraceError and UsageError."""
        outcomes: list[Outcome] = []
        try:
            self._start()
            await self._ready()
            for number, phase in enumerate(self._job.phases):
                if self._stopped:
                    break
                outcomes.append(await self._phase(number, phase))
        finally:
            await self._leave()
        return outcomes

    def stop(self) -> None:
        """End soon: the phase that runs is the last, and is interrupted."""
        self._stopped = True
        self._heard.put_nowait(None)
        self._order(Stop())

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        loop = asyncio.get_running_loop()
        for index in range(self._job.processes):
            pipe, other = spawn.Pipe()
            name = f"headrace load {index}"
            process = spawn.Process(target=work, args=(self._job, index, other), name=name, daemon=True)
            with _without_interrupts(), _without_log():
                process.start()
            other.close()
            member = _Member(process, pipe)
            self._members.append(member)
            loop.add_reader(pipe.fileno(), self._listen, member)

    def _listen(self, member: _Member) -> None:
        try:
            self._heard.put_nowait((member, member.pipe.recv()))
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(member.pipe.fileno())
            self._heard.put_nowait((member, None))

    async def _next(self) -> Report | None:
        """What one of them has to say; None when the crew was stopped. Raises what ends the run."""
        heard = await self._heard.get()
        if heard is None:
            return None
        member, report = heard
        if report is None:
            raise await self._death(member)
        if isinstance(report, Failed):
            raise report.error
        return report

    async def _death(self, member: _Member) -> Internal:
        await asyncio.to_thread(member.process.join, LEAVING)
        code = member.process.exitcode
        why = f"was killed by {_signal_name(-code)}" if code and code < 0 else f"has exited with code {code}"
        return Internal(f"process {member.process.pid} of the load test {why}")

    async def _ready(self) -> None:
        """Wait until all are connected."""
        missing = len(self._members)
        while missing and not self._stopped:
            report = await self._next()
            if isinstance(report, Ready):
                if missing == len(self._members):
                    self._tell(report.described)
                missing -= 1

    async def _phase(self, number: int, phase: Phase) -> Outcome:
        begin = time.perf_counter() + LEAD + phase.warmup
        self._order(Begin(number, begin))
        self._tell(Began(number, begin))
        batches: list[Samples] = []
        ends: list[Over] = []
        while len(ends) < len(self._members):
            report = await self._next()
            if isinstance(report, Batch):
                batches.append(report.samples)
                self._tell(report)
            elif isinstance(report, Over):
                ends.append(report)
        outcome = merged(phase, ends, batches, interrupted=self._stopped)
        self._tell(PhaseOver(number, outcome, sum(end.part.warmup_failures for end in ends)))
        return outcome

    def _order(self, order: Order) -> None:
        for member in self._members:
            # One that is gone is noticed where it is listened to.
            with suppress(OSError):
                member.pipe.send(order)

    async def _leave(self) -> None:
        """Close all pipes, which ends the processes, and wait for that."""
        loop = asyncio.get_running_loop()
        for member in self._members:
            loop.remove_reader(member.pipe.fileno())
            member.pipe.close()
        for member in self._members:
            await asyncio.to_thread(member.process.join, LEAVING)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            member.process.close()


def merged(phase: Phase, ends: Sequence[Over], batches: Sequence[Samples], *, interrupted: bool) -> Outcome:
    """What has come of a phase in all processes together."""
    parts = [end.part for end in ends]
    messages: dict[int, str] = {}
    for part in parts:
        messages = part.messages | messages
    return Outcome(
        phase,
        planned=sum(part.planned for part in parts),
        unsent=sum(part.unsent for part in parts),
        elapsed=max(part.elapsed for part in parts),
        samples=joined([*batches]),
        messages=messages,
        server=next((end.server for end in ends if end.server is not None), None),
        interrupted=interrupted,
        no_room=sum(part.no_room for part in parts),
    )


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started inside never gets SIGINT: a Ctrl-C is for the parent, which tells the others to stop."""
    # Where it is started by the way it unblocks signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_log() -> Iterator[None]:
    """In what is started inside gRPC is silent: what happens to a connection is in the samples, and the log would be
    written into the live view. It reads this when it is loaded, and so before anything of ours runs.
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
