"""Keeps a number of requests in flight: when one has ended, the next one is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from headrace.client.load.callers.caller import Caller, Inputs
from headrace.client.load.callers.departure import Departure
from headrace.client.load.sending.pacer import Pacer
from headrace.client.load.sending.tracker import RequestTracker, current_task

FAILURE_INTERVAL_SECONDS = 0.1
"""At least this long after a request that failed was sent, the next one follows.

A server that refuses everything must not be asked as fast as it can refuse. Each failure is recorded with the time that
it took itself.
"""


async def send_closed_loop(
    callers: Sequence[Caller],
    count: float,
    warmup: float,
    inputs: Iterator[Inputs],
    tracker: RequestTracker,
    pacer: Pacer,
    group: asyncio.TaskGroup,
) -> None:
    """Begin at -warmup with one request for each element of `callers`, in which a caller may occur several times.

    Return when `count` requests of the measured part have ended, or the tracker is closed.
    """

    async def send_in_turn(caller: Caller) -> None:
        while not tracker.closed and tracker.begun < count:
            intended, departure = pacer.now(), Departure()
            tracker.begin(current_task(), intended, departure)
            answer = await caller.call(next(inputs), departure)
            tracker.finish(current_task(), answer)
            if answer.code:
                await pacer.wait_until(intended + FAILURE_INTERVAL_SECONDS)
            else:
                await pacer.maybe_yield()

    await pacer.wait_until(-warmup)
    loops = [group.create_task(send_in_turn(caller)) for caller in callers]
    if loops:
        await asyncio.wait(loops)
