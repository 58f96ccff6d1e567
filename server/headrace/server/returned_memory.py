"""Memory that is not needed any more goes back to the system, also while there is some load."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.wire.memory import free_bytes, give_back_memory, resident_bytes

SAMPLE_SECONDS = 1.0
SAMPLES = 10
"""Memory goes back that was free in each sample of this many."""
KEPT_BYTES = 64 << 20
"""Free memory that a server under load may keep: getting it back takes 0.2 s for each GiB."""


async def return_memory(dispatcher: Dispatcher, release: Callable[[], None]) -> None:
    """Return what was free for SAMPLES seconds, and everything free when nothing has happened for as long. Endless.

    `release` frees what the engine can do without.
    """
    given_back = True
    resident, free = resident_bytes(), free_bytes()
    """What there was after memory was last given back. Of memory that is with the system, `free` says the same."""
    while True:
        dispatcher.rested = True
        least: float = math.inf
        for _ in range(SAMPLES):
            await asyncio.sleep(SAMPLE_SECONDS)
            if not dispatcher.rested:
                least = min(least, free_bytes())
        unneeded = least > KEPT_BYTES and (resident_bytes() - resident > KEPT_BYTES or least - free > KEPT_BYTES)
        if (not given_back) if dispatcher.rested else unneeded:
            release()
            # On another thread: it takes milliseconds, more after a large peak.
            await asyncio.to_thread(give_back_memory)
            resident, free = resident_bytes(), free_bytes()
        given_back = dispatcher.rested
