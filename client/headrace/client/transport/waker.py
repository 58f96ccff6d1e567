"""Waking many tasks with one callback of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Waiter:
    """What a single task awaits; made by `Waker.waiter`.

    To asyncio it is a future, because it has `_asyncio_future_blocking`. It has only the methods that a task uses, to
    keep it cheap: one is made for each result that is awaited.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop")

    _asyncio_future_blocking: bool
    _loop: asyncio.AbstractEventLoop
    _callback: Callable[[Any], object] | None
    """Wakes the task. None if no task is waiting."""
    _context: Context
    """The context of the callback."""
    _cancelled: tuple[object, ...] | None
    """The arguments of CancelledError, if the wait was cancelled."""

    def __await__(self) -> Generator[Waiter, None, None]:
        yield self

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._callback = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        """Wake the task with CancelledError, unless it was woken already."""
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
    """Wakes all due tasks with one callback of the event loop, where futures take a callback each.

    This saves a tenth of the client's time for a small inference. Tasks that become due meanwhile are woken last. So
    when the tasks that a message has woken submit again, the writer wakes after them and sends everything at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.due: deque[Waiter] = deque()
        """The waiters to wake; `schedule` follows."""
        self._loop = loop
        self._scheduled = False

    def waiter(self) -> Waiter:
        """A waiter, which one task awaits at once."""
        waiter = Waiter()  # without __init__, which would double the time
        waiter._asyncio_future_blocking = True
        waiter._loop = self._loop
        waiter._callback = waiter._cancelled = None
        return waiter

    def schedule(self) -> None:
        """Wake the due tasks in the next turn of the event loop."""
        if self.due and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        due = self.due
        try:
            while due:
                waiter = due.popleft()
                callback = waiter._callback
                if callback is not None:  # not cancelled
                    waiter._callback = None
                    waiter._context.run(callback, waiter)
        finally:
            # A task may raise something that stops the loop, such as SystemExit. The others wake when it runs again.
            self._scheduled = False
            self.schedule()
