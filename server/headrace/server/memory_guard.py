"""Keeps the process from being ended for its memory, by the kernel or by gRPC.

Two things take memory before any account can know: what a run computes, whose size may depend on data, and what gRPC
holds of messages that have not arrived completely. Of the first, a ceiling makes single large allocations fail, and
with them one request. It follows the memory in use, because gRPC ends the process when it gets none, and messages come
in small pieces. So against the second, calls are ended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from headrace.server.process_memory import mapped_bytes, set_ceiling
from headrace.wire.memory import free_bytes

MIN_SPARE_BYTES = 768 << 20
"""Memory that the process may take beside models and the budget, at least, where the machine has it."""
MAX_SHARE = 0.9
"""Of the available memory, the process never takes more."""
RESERVE_BYTES = 256 << 20
"""Of that, what is kept for gRPC."""
BYTES_PER_SECOND = 4 << 30
"""Messages do not come faster: a loopback connection carries half as much."""
MIN_SECONDS, MAX_SECONDS = 0.01, 0.25
"""Between two looks. The ceiling follows at each."""
RELEASE_SECONDS = 0.1
"""After this time the memory of calls that were ended is free."""
MIN_RELEASED_BYTES = 1 << 20
"""What must be free then for each, on average."""
MAX_IN_VAIN = 3
"""How often in a row calls are ended without that."""

logger = logging.getLogger(__name__)

EndSome = Callable[[], tuple[int, str]]
"""Ends some calls that may be receiving. Returns how many, and their host (see `transport.receiving`)."""


class MemoryGuard:
    """`budget` is what requests may take, and `available` what the process can have at most, in bytes.

    It acts between `start` and `stop`, on a thread of its own: the event loop may be what is busy.
    """

    def __init__(self, budget: int, available: int) -> None:
        self._budget = budget
        self._spare = max(budget // 2, MIN_SPARE_BYTES)
        self._most = int(MAX_SHARE * available)
        self._models = 0
        """What the process had mapped at the start, and what models that were loaded since have added."""
        self._lock = threading.Lock()
        self._active = False
        self._loads = 0
        self._stopped = threading.Event()
        self._ending: Future[tuple[int, str]] | None = None
        """Calls that are being ended."""
        self._before = self._in_vain = 0

    def start(self, end_some: EndSome) -> None:
        """Models are loaded inside `loading` from now on. To be called on the event loop, which runs `end_some`."""
        self._models, self._active = mapped_bytes(), True
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(end_some, loop), name="memory guard", daemon=True).start()

    def stop(self) -> None:
        """End no more calls, and let the process take what it needs."""
        self._stopped.set()
        with self._lock:
            self._active = False
            set_ceiling(None)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Meanwhile a model is loaded, and the process may take what it needs."""
        with self._lock:
            self._loads += 1
            set_ceiling(None)
            before = mapped_bytes()
        try:
            yield
        finally:
            with self._lock:
                self._loads -= 1
                after = mapped_bytes()
                # Models that were unloaded since then are no longer among what is mapped.
                self._models = min(self._models + max(0, after - before), after)
            self._raise_ceiling()  # at once: the next run may be one that takes everything

    def has_room(self, nbytes: int) -> bool:
        """Whether models may take so many bytes more, and half of the budget still fits beside them."""
        return self._excess() < 0 and self._models + nbytes + self._budget // 2 <= self._most - RESERVE_BYTES

    @property
    def threshold(self) -> int:
        """Bytes beyond which calls are ended."""
        least = self._models + self._budget // 2
        return min(self._models + self._budget + self._spare // 2, max(self._most - RESERVE_BYTES, least))

    def _watch(self, end_some: EndSome, loop: asyncio.AbstractEventLoop) -> None:
        async def end() -> tuple[int, str]:
            ended = end_some()
            await asyncio.sleep(RELEASE_SECONDS)
            return ended

        def begin() -> Future[tuple[int, str]]:
            return asyncio.run_coroutine_threadsafe(end(), loop)

        with suppress(RuntimeError):  # the loop has been closed
            while not self._stopped.wait(self.look(begin)):
                pass

    def look(self, begin: Callable[[], Future[tuple[int, str]]]) -> float:
        """Do what is due, and return how many seconds later to look again. `begin` begins to end some calls."""
        self._raise_ceiling()
        if self._loads:
            return MAX_SECONDS
        excess = self._excess()
        if self._ending is not None:
            if not self._ending.done():
                return MIN_SECONDS
            self._judge(excess, *self._ending.result())
            self._ending = None
        elif excess > 0:
            self._before, self._ending = excess, begin()
        return min(MAX_SECONDS, max(MIN_SECONDS, -excess / BYTES_PER_SECOND))

    def _raise_ceiling(self) -> None:
        """Let the ceiling follow what is in use: a single allocation may take the budget and what is spare."""
        with self._lock:
            used = mapped_bytes()
            if used and self._active and not self._loads:
                set_ceiling(used + max(RESERVE_BYTES, min(self._budget + self._spare, self._most - used)))

    def _excess(self) -> int:
        """Bytes in use beyond the threshold; negative while there are fewer."""
        excess = mapped_bytes() - self.threshold
        # It takes a while to count what was freed, and that does not matter while enough is left.
        return excess if excess < 0 else excess - free_bytes()

    def _judge(self, excess: int, count: int, host: str) -> None:
        """Calls have been ended. If that frees nothing, something else has taken the memory."""
        if count:
            logger.warning("memory is short: ended %d calls from %s that may have been receiving messages", count, host)
        helped = count > 0 and self._before - excess >= count * MIN_RELEASED_BYTES
        self._in_vain = 0 if helped or excess <= 0 else self._in_vain + 1
        if self._in_vain == MAX_IN_VAIN:
            logger.warning("memory is short, but not because of messages: %d MiB more are in use", excess >> 20)
            self._models += excess
            self._in_vain = 0

    def __repr__(self) -> str:
        return f"<MemoryGuard: {mapped_bytes()} bytes in use, calls are ended from {self.threshold} on>"
