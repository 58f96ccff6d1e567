"""The queue for places in a stream's window: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice


class WindowQueue:
    """Tasks that wait for a free place. `free` counts the places; the queue does not.

    A place may turn out to be more than one: the window is also one of bytes, and large tickets take what looked like
    places for several small ones. So a task keeps its position until it has run and found that there is a place.
    """

    def __init__(self, free: Callable[[], int]) -> None:
        self.contended = False
        """Whether tasks wait, or were admitted and have not run yet. A newcomer must not overtake them."""
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Position] = deque()

    async def wait_turn(self) -> None:
        """Wait for a place. The caller takes it, or calls `admit`, before it awaits anything else."""
        position = _Position(self._loop)
        self._waiting.append(position)
        self.admit()
        try:
            await position.admitted
            while self._waiting[0] is not position or self._free() <= 0:
                position.admitted = self._loop.create_future()
                await position.admitted
        except asyncio.CancelledError:
            self._waiting.remove(position)
            self.admit()
            raise
        self._waiting.popleft()
        self.contended = bool(self._waiting)

    def admit(self) -> None:
        """Admit as many tasks as there are free places."""
        if self._waiting:
            for position in islice(self._waiting, max(0, min(self._free(), len(self._waiting)))):
                if not position.admitted.done():
                    position.admitted.set_result(None)
        self.contended = bool(self._waiting)

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<WindowQueue: {len(self._waiting)} waiting>"


class _Position:
    __slots__ = ("admitted",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.admitted: asyncio.Future[None] = loop.create_future()
