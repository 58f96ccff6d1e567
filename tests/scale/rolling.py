"""Clients of every kind that live through restarts: what they have got, and how long they have waited for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import NamedTuple

import grpc.aio

import headrace.client as hc
from tests.e2e.doubling import LINKS, chain
from tests.scale.lone_calls import Calls, native, oip
from tests.scale.numbers import Numbers
from tests.scale.processes import wait_until
from tests.soak.findings import Findings

CONNECTIONS, STREAMS, CHAINS, CALLERS = 4, 12, 4, 2
"""The connections of all streams, which share them, the streams that have chains as well, and the callers of each
protocol."""
RATE = 100.0
"""Numbers a second."""
PAUSE = 0.02
"""Between the calls of a caller, and three times as long between chains."""
PATIENCE = 120.0
ENOUGH = Counter(numbers=50, links=LINKS, calls=20)
"""Answers of each kind between two restarts."""


class Clients(NamedTuple):
    """How clients reach what is restarted: how they connect, and a channel of other clients."""

    connect: Callable[[], hc.Server]
    channel: Callable[[], grpc.aio.Channel]


async def rolling(clients: Clients, restarts: Iterable[Callable[[], object]], findings: Findings, name: str) -> None:
    """Restart one thing after the other, each when all clients have got answers since the one before.

    A restart runs on a thread, and returns when everything is there again.
    """
    load = Load()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        servers = [await stack.enter_async_context(clients.connect()) for _ in range(CONNECTIONS)]
        streams = [
            await stack.enter_async_context(
                servers[number % CONNECTIONS].stream(resume=True, patience=PATIENCE, on_resume=load.breaks.append)
            )
            for number in range(STREAMS)
        ]
        asks = [native(servers[number]) for number in range(CALLERS)]
        asks += [oip(await stack.enter_async_context(clients.channel())) for _ in range(CALLERS)]
        load.calls = [Calls() for _ in asks]
        sending = [
            tasks.create_task(load.numbers.send(streams, load.over)),
            *[tasks.create_task(load.chain(stream)) for stream in streams[:CHAINS]],
            *[
                tasks.create_task(calls.make(ask, load.over, PAUSE))
                for calls, ask in zip(load.calls, asks, strict=True)
            ],
        ]
        count = 0
        for restart in restarts:
            await load.answered()
            await asyncio.to_thread(restart)
            count += 1
        await load.answered()
        load.over.set()
        await asyncio.gather(*sending)
    findings.at_least(f"{name}: restarts", count, 1)
    load.report(findings)


class Load:
    """What the clients have got. Every answer was compared with what it must be."""

    def __init__(self) -> None:
        self.numbers = Numbers(RATE)
        self.calls: list[Calls] = []
        self.breaks: list[hc.Resumed] = []
        self.over = asyncio.Event()
        self._links = 0

    async def chain(self, stream: hc.Stream) -> None:
        """Numbers that stay on the server, each made of the one before."""
        while not self.over.is_set():
            assert await chain(stream) == 2**LINKS - 1
            self._links += LINKS
            await asyncio.sleep(3 * PAUSE)

    async def answered(self) -> None:
        """Wait until there are enough further answers of each kind."""
        wanted = self._answers() + ENOUGH
        await asyncio.to_thread(wait_until, lambda: self._answers() >= wanted, "all answered", PATIENCE)

    def _answers(self) -> Counter[str]:
        return Counter(
            numbers=len(self.numbers.answers), links=self._links, calls=min(each.done for each in self.calls)
        )

    def report(self, findings: Findings) -> None:
        numbers, answers = self.numbers, self.numbers.answers
        lost = len({*range(numbers.sent)} ^ {*answers})
        findings.at_least("  numbers sent on streams", numbers.sent, 1)
        findings.equal("  lost, or given twice", lost + len(answers) - len({*answers}), 0)
        findings.count("  links of chains", self._links)
        findings.at_least("  streams that went on elsewhere", len(self.breaks), 1)
        findings.count("  tickets that were sent again", sum(each.tickets for each in self.breaks))
        findings.count("  calls answered", sum(each.done for each in self.calls))
        findings.count("  calls made again", sum(each.failed.total() for each in self.calls))
        findings.count("  longest without a stream", max(each.seconds for each in self.breaks), "s")
        findings.count("  longest wait for a number", max(numbers.latencies), "s")
        findings.count("  longest wait for a call", max(each.longest for each in self.calls), "s")
