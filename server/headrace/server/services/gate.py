"""Admission of calls: a limited number at a time, and none once the server is stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.wire.errors import ResourceExhausted, Unavailable

STOPPING = "the server is stopping"

T = TypeVar("T")


class Gate:
    """Admits up to `limit` calls at a time: a call runs inside `with gate:`, or between `enter` and `leave`.

    `full_message` is the message of the error that further calls get.
    """

    def __init__(self, limit: int, full_message: str) -> None:
        self._limit = limit
        self._full_message = full_message
        self._inside = 0
        self.refused = self.refused_closed = 0
        """Calls that were refused because the gate was full, and because it was closed."""
        self.overloaded = 0
        """Calls that were refused because they would have waited for too long to come to the gate."""
        self._closed = asyncio.Event()
        self._empty = asyncio.Event()
        """Set when the gate is closed and the last call has ended."""

    def check(self) -> None:
        """Raises ResourceExhausted when the gate is full, Unavailable when it is closed."""
        if self._closed.is_set():
            self.refused_closed += 1
            raise Unavailable(STOPPING)
        if self._inside >= self._limit:
            self.refused += 1
            raise ResourceExhausted(self._full_message)

    def enter(self) -> None:
        """Raises what `check` raises."""
        self.check()
        self._inside += 1

    def leave(self) -> None:
        """A call that has entered has ended."""
        self._inside -= 1
        self._check_empty()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def close(self) -> None:
        """Admit no more calls. Calls inside the gate run to their end."""
        self._closed.set()
        self._check_empty()

    async def wait_closed(self) -> None:
        """Wait until the gate is closed and the last call has ended."""
        await self._empty.wait()

    async def while_open(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, unless the gate closes first: then `work` is cancelled and Unavailable raised.

        This is for work that must not delay the end of the server.
        """
        task, closed = asyncio.ensure_future(work), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Unavailable(STOPPING)
            return task.result()
        finally:
            closed.cancel()
            task.cancel()
            await asyncio.gather(closed, task, return_exceptions=True)

    def _check_empty(self) -> None:
        if self._closed.is_set() and not self._inside:
            self._empty.set()

    def __repr__(self) -> str:
        return f"<Gate {self._inside} of {self._limit} inside{', closed' if self._closed.is_set() else ''}>"
