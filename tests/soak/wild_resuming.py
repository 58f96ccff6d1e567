"""Clients that chain, fetch, release and cancel at random while servers die: what ends, ends as if none had."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import numpy as np

import headrace.client as hc

LARGEST = 1e30
IN_FLIGHT, KEPT = 100, 30


@dataclass(eq=False)
class Sent:
    """A ticket, its y, and what may make it fail."""

    ticket: hc.Ticket
    y: np.float32
    source: Sent | None = None
    is_late: bool = False
    """Another ticket took the source before."""
    is_taken: bool = False
    is_cancelled: bool = False

    @property
    def may_fail(self) -> bool:
        return self.is_cancelled or self.is_late or (self.source is not None and self.source.may_fail)


class Wild:
    """One client of one stream. `ends` counts what became of its tickets."""

    def __init__(self, seed: int, stream: hc.Stream) -> None:
        self.random = random.Random(seed)
        self.stream = stream
        self.sent: list[Sent] = []
        self.checks: set[asyncio.Task[None]] = set()
        self.ends: Counter[str] = Counter()

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            kind = self.random.choice(["plain", "chain", "chain", "chain", "fetch", "release", "cancel", "pause"])
            await getattr(self, kind)()
            for old in self.sent[:-KEPT]:
                old.ticket.release()
            self.sent = self.sent[-KEPT:]
            if len(self.checks) > IN_FLIGHT:
                await asyncio.wait(self.checks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*self.checks)
        for each in self.sent:
            each.ticket.release()

    async def plain(self) -> None:
        value = np.float32(self.random.random())
        x = np.full(self.random.choice([1, 7, 3_000]), value, np.float32)
        await self.submit(x, value, ["y"])

    async def chain(self) -> None:
        source = self.any_kept()
        if source is not None and abs(source.y) < LARGEST:
            take = self.random.random() < 0.5
            reference = source.ticket.take("y") if take else source.ticket["y"]
            outputs = self.random.choice([["y"], []])
            was_taken, source.is_taken = source.is_taken, source.is_taken or take
            await self.submit(reference, source.y, outputs, source, is_late=was_taken)

    async def submit(
        self,
        x: hc.Reference | np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        value: np.float32,
        outputs: list[str],
        source: Sent | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        ticket = await self.stream.submit("scale", {"x": x}, outputs=outputs, keep=["y"])
        sent = Sent(ticket, np.float32(2) * value + np.float32(1), source, is_late)
        self.sent.append(sent)
        self.check(self.check_end(sent, outputs))

    async def fetch(self) -> None:
        source = self.any_kept()
        if source is not None:
            self.check(self.check_fetch(source))

    async def release(self) -> None:
        source = self.any_kept()
        if source is not None:
            source.ticket.release()

    async def cancel(self) -> None:
        source = self.any_kept()
        if source is not None and not source.ticket.ended:
            source.is_cancelled = True
            source.ticket.cancel()

    async def pause(self) -> None:
        await asyncio.sleep(self.random.choice([0.0, 0.0, 0.002, 0.01]))

    def any_kept(self) -> Sent | None:
        kept = [each for each in self.sent[-8:] if "y" not in (each.ticket._released or ())]
        return self.random.choice(kept) if kept else None

    def check(self, check: object) -> None:
        assert asyncio.iscoroutine(check)
        task = asyncio.ensure_future(check)
        self.checks.add(task)
        task.add_done_callback(self.checks.discard)

    async def check_end(self, sent: Sent, outputs: list[str]) -> None:
        try:
            result = await sent.ticket
        except (hc.Cancelled, hc.FailedPrecondition):
            if not sent.may_fail:
                raise
            self.ends["failed"] += 1
        else:
            assert list(result) == outputs
            assert all((y == sent.y).all() for y in result.values())
            self.ends["done"] += 1

    async def check_fetch(self, source: Sent) -> None:
        try:
            y = await source.ticket.fetch("y", slice=(0, 1))
        except (KeyError, hc.NotFound):
            if not (source.may_fail or source.is_taken or source.ticket._released):
                raise
        else:
            assert y == source.y
            self.ends["fetched"] += 1
