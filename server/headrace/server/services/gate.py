"""Where calls come in: so many at once, and none any more from when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.wire.errors import ResourceExhausted, Unavailable

STOPPING = "the server is stopping"

T = TypeVar("T")


class Gate:
    """`with gate:` is around a call. At most `limit` are inside; `full` is what the next one is told."""

    def __init__(self, limit: int, full: str) -> None:
        self._limit = limit
        self._full = full
        self._inside = 0
        self._shut = asyncio.Event()
        self._empty = asyncio.Event()
        """Set when the gate is shut and the last call has left."""

    def __enter__(self) -> None:
        """Raises ResourceExhausted when all places are taken, Unavailable once the gate is shut."""
        if self._shut.is_set():
            raise Unavailable(STOPPING)
        if self._inside >= self._limit:
            raise ResourceExhausted(self._full)
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        self._look()

    def shut(self) -> None:
        """Let nobody in from now on. Those inside finish."""
        self._shut.set()
        self._look()

    async def emptied(self) -> None:
        """Wait until the gate is shut and the last call has left."""
        await self._empty.wait()

    async def while_open(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that the server's end does not wait for: Unavailable is raised when the gate is shut."""
        task, shut = asyncio.ensure_future(work), asyncio.ensure_future(self._shut.wait())
        try:
            await asyncio.wait((task, shut), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Unavailable(STOPPING)
            return task.result()
        finally:
            shut.cancel()
            task.cancel()
            await asyncio.gather(shut, task, return_exceptions=True)

    def _look(self) -> None:
        if self._shut.is_set() and not self._inside:
            self._empty.set()

    def __repr__(self) -> str:
        return f"<Gate {self._inside} of {self._limit} inside{', shut' if self._shut.is_set() else ''}>"
