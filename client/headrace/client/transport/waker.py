"""Tasks that wait for something, and are woken together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Waiter:
    """What one task waits for; made by `Waker.waiter`.

    A future, as asyncio understands it: whatever has `_asyncio_future_blocking` is one. It has only what a task uses,
    since there is one for each result that is waited for.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop")

    _asyncio_future_blocking: bool
    _loop: asyncio.AbstractEventLoop
    _callback: Callable[[Any], object] | None
    """The task's. None: it does not wait, or not any more."""
    _context: Context
    """The callback's."""
    _cancelled: tuple[object, ...] | None
    """What CancelledError is to be raised with."""

    def __await__(self) -> Generator[Waiter, None, None]:
        yield self

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._callback = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        """The task is to be woken and to find itself cancelled, unless it was woken."""
        callback = self._callback
        if callback is None:
            return False
        self._callback = None
        self._cancelled = () if msg is None else (msg,)
        self._loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> None:
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)


class Waker:
    """Wakes tasks: all that are due by one callback of the loop, where futures take one each.

    That is a tenth of the time that a small inference takes here. What becomes due meanwhile is woken as well, behind
    the others. So a writer that was roused by those that a message has woken finds what all of them have to say.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.due: deque[Waiter] = deque()
        """To be filled before `set`."""
        self._loop = loop
        self._is_set = False

    def waiter(self) -> Waiter:
        """To be awaited at once, by one task."""
        waiter = Waiter()  # it has no __init__, which would double what this takes
        waiter._asyncio_future_blocking = True
        waiter._loop = self._loop
        waiter._callback = waiter._cancelled = None
        return waiter

    def set(self) -> None:
        """Wake those who are due, when the loop comes to it."""
        if self.due and not self._is_set:
            self._is_set = True
            self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        due = self.due
        try:
            while due:
                waiter = due.popleft()
                callback = waiter._callback
                if callback is not None:  # not cancelled
                    waiter._callback = None
                    waiter._context.run(callback, waiter)
        finally:
            # A task may raise what stops the loop, such as SystemExit. The others are woken when it runs again.
            self._is_set = False
            self.set()
