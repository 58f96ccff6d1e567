"""Reading a plain iterable in a thread, so that an item that takes its time keeps nothing else waiting."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from contextvars import copy_context
from typing import Generic, TypeVar

T = TypeVar("T")


class ThreadedItems(Generic[T]):
    """The items of an iterable, read by a thread of their own, in the context of the task that made this object.

    The thread reads `ahead` items, and one more for each `allow`. It ends when the iterable does, when `close` is
    called (after the item that it is reading), or with the process.
    """

    def __init__(self, source: Iterable[T], ahead: int) -> None:
        self._allowed = threading.Semaphore(ahead)
        self._read: deque[T] = deque()
        self._closed = False
        self._end: BaseException | None = None
        """Set when the source has ended: StopAsyncIteration, or its error."""
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._waking = False
        thread = threading.Thread(target=copy_context().run, args=(self._run, source), name="headrace map", daemon=True)
        thread.start()

    async def next(self) -> T:
        """The next item. Raises the error of the source in its turn, and StopAsyncIteration at its end."""
        while not self._read:
            if self._end is not None:
                raise self._end
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._read.popleft()

    def allow(self) -> None:
        """Let the thread read another item."""
        self._allowed.release()

    def close(self) -> None:
        """Let the thread end. It finishes the item that it is reading, which nobody gets."""
        self._closed = True
        self._allowed.release()

    # In the thread

    def _run(self, source: Iterable[T]) -> None:
        try:
            items = iter(source)
            while True:
                self._allowed.acquire()
                if self._closed:
                    return
                self._read.append(next(items))
                self._notify()
        except StopIteration:
            self._end = StopAsyncIteration()
        except BaseException as error:
            self._end = error
        self._notify()

    def _notify(self) -> None:
        # A callback that was scheduled and has not run yet sees this item too.
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop was closed, and with it whoever waits for items
                self._closed = True

    def _wake(self) -> None:
        self._waking = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
