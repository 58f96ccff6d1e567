"""WindowQueue in the window: who waits for it gets it in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class WindowQueue:
    """A queue for places that somebody else counts."""

    def __init__(self, free: Callable[[], int]) -> None:
        self.crowded = False
        """Somebody waits, or was let in and has not run yet: who comes now must not overtake."""
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._granted = 0

    async def enter(self) -> None:
        """Wait for a place; use it, or call `give`, before waiting for anything else."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        self.give()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._granted -= 1
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            self.give()
            raise
        self._granted -= 1
        self._count()

    def give(self) -> None:
        """Let in as many as there are places now."""
        while self._waiting and self._free() > self._granted:
            waiter = self._waiting.popleft()
            if not waiter.done():  # not cancelled
                waiter.set_result(None)
                self._granted += 1
        self._count()

    def _count(self) -> None:
        self.crowded = bool(self._waiting or self._granted)

    def __len__(self) -> int:
        return len(self._waiting)
