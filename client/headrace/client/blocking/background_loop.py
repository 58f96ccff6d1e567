"""The event loop of the blocking client, in a background thread: one for the process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Generic, ParamSpec, TypeVar

from headrace.client.protocol.timeouts import clock_seconds
from headrace.client.transport.processes import check_not_forked, forks

T = TypeVar("T")
P = ParamSpec("P")

_starting = threading.Lock()
_loop: tuple[int, asyncio.AbstractEventLoop] | None = None
_ending = threading.Event()
"""Set when the interpreter ends. Soon the background thread does not run any more, and waiting for it would not end."""


def wait(work: Awaitable[T], timeout: float | None = None) -> T:
    """Await something on the background loop, and return its result.

    Raises TimeoutError after `timeout` seconds. Then, and when the waiting is interrupted, the work is cancelled.
    Raises RuntimeError when the interpreter ends, and in a process that was forked after gRPC was used.
    """
    try:
        check_not_forked()
        if _ending.is_set():
            raise RuntimeError("the interpreter is ending; there is no time to wait for a server")
        loop = _running()
    except BaseException:
        if isinstance(work, Coroutine):
            work.close()
        raise
    waiting = _Waiting(work)
    try:
        loop.call_soon_threadsafe(waiting.begin)
        return waiting.result(timeout)
    except BaseException:
        loop.call_soon_threadsafe(waiting.cancel)
        raise


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on the background loop, after everything submitted before, and return its result."""

    async def called() -> T:
        return function(*args, **kwargs)

    return wait(called())


def tell(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Like `call`, for what lets go of something: has no effect where `wait` cannot work."""
    if _can_wait():
        call(function, *args, **kwargs)


def settle(work: Callable[[], Awaitable[object]]) -> None:
    """Await the end of something that has to be cleaned up. Has no effect where `wait` cannot work."""
    if _can_wait():
        wait(work())


def tell_later(function: Callable[[], object]) -> None:
    """Call a function on the background loop, without waiting for it: for whoever is being interrupted."""
    if _can_wait():
        _running().call_soon_threadsafe(function)


def _can_wait() -> bool:
    return not (_ending.is_set() or forks())


class _Waiting(Generic[T]):
    """Work on the loop that another thread waits for.

    The locks of `concurrent.futures` are in Python: Ctrl-C at the wrong moment leaves one of them locked for ever, and
    the loop would stand when the work ends. A SimpleQueue cannot be interrupted halfway.
    """

    def __init__(self, work: Awaitable[T]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._ended: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

    def begin(self) -> None:
        """On the loop: start the work."""
        # Of a coroutine in another that is cancelled before it begins, Python would say that it was never awaited.
        work = self._work if isinstance(self._work, Coroutine) else _done(self._work)
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # nobody may wait any more, and asyncio would log it
        self._ended.put(task)

    def cancel(self) -> None:
        """On the loop: nobody waits any more."""
        if self._task is not None:
            self._task.cancel()
        elif isinstance(self._work, Coroutine):
            self._work.close()

    def result(self, timeout: float | None) -> T:
        """On the other thread: wait for the end of the work."""
        try:
            return self._ended.get(timeout=clock_seconds(timeout)).result()
        except Empty:
            raise TimeoutError from None
        except asyncio.CancelledError:
            raise RuntimeError("the background loop has stopped") from None


async def _done(work: Awaitable[T]) -> T:
    return await work


def _running() -> asyncio.AbstractEventLoop:
    """The loop of this process, started on first use. A forked child gets a loop of its own."""
    global _loop
    with _starting:
        if _loop is None or _loop[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="headrace", daemon=True).start()
            _loop = os.getpid(), loop
        return _loop[1]


atexit.register(_ending.set)
