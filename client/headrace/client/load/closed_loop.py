"""Keeps a number of requests in flight, each followed by another when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from headrace.client.load.calling import Caller, Inputs
from headrace.client.load.ledger import Ledger, current_task
from headrace.client.load.pacer import Pacer

FAILURE_TAKES = 0.1
"""Seconds from a request that failed to the one that follows it, at least: a server that refuses everything must not be
asked as fast as it can refuse. Each failure is recorded with the time that it took itself.
"""


async def send_closed(
    callers: Sequence[Caller],
    count: float,
    warmup: float,
    inputs: Iterator[Inputs],
    ledger: Ledger,
    pacer: Pacer,
    group: asyncio.TaskGroup,
) -> None:
    """Begin at -warmup with one request at each of the callers, which may be there several times.

    Return when `count` requests of the measured part have ended, or the ledger was closed.
    """

    async def follow(caller: Caller) -> None:
        while not ledger.closed and ledger.sent < count:
            intended = pacer.now()
            ledger.send(current_task(), intended, intended)
            answer = await caller.call(next(inputs))
            ledger.answer(current_task(), answer)
            if answer.code:
                await pacer.until(intended + FAILURE_TAKES)
            else:
                await pacer.breathe()

    await pacer.until(-warmup)
    loops = [group.create_task(follow(caller)) for caller in callers]
    if loops:
        await asyncio.wait(loops)
