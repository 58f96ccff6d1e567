"""The queue for places in a stream's window: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class WindowQueue:
    """Tasks that wait for a free place. `free` counts the places; the queue does not."""

    def __init__(self, free: Callable[[], int]) -> None:
        self.contended = False
        """Whether tasks wait, or were admitted and have not run yet. A newcomer must not overtake them."""
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._admitted = 0

    async def wait_turn(self) -> None:
        """Wait for a place. The caller takes it, or calls `admit`, before it awaits anything else."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        self.admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._admitted -= 1
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            self.admit()
            raise
        self._admitted -= 1
        self._update()

    def admit(self) -> None:
        """Admit as many tasks as there are free places."""
        while self._waiting and self._free() > self._admitted:
            waiter = self._waiting.popleft()
            if not waiter.done():  # not cancelled
                waiter.set_result(None)
                self._admitted += 1
        self._update()

    def _update(self) -> None:
        self.contended = bool(self._waiting or self._admitted)

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<WindowQueue: {len(self._waiting)} waiting, {self._admitted} admitted>"
