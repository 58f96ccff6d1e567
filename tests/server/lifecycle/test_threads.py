"""Work beside the event loop, one thing after another."""

from __future__ import annotations

import asyncio
import threading

from headrace.server.lifecycle.threads import Worker


async def test_what_is_cancelled_while_it_waits_is_not_done() -> None:
    worker, gate, done = Worker("test"), threading.Event(), list[int]()
    first = asyncio.create_task(worker.run(lambda: gate.wait(30)))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(worker.run(lambda number=number: done.append(number))) for number in range(3)]  # type: ignore[misc]  # a lambda with a default
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await first
    await asyncio.gather(waiting[0], waiting[2])
    assert done == [0, 2]
