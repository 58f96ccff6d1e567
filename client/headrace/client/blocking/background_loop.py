"""The event loop of the blocking client, in a background thread: one for the process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import ParamSpec, TypeVar

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
    except RuntimeError:
        if isinstance(work, Coroutine):
            work.close()
        raise
    future = asyncio.run_coroutine_threadsafe(_done(work), _running())
    return _wait(future, timeout)


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


def _wait(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(clock_seconds(timeout))
    except CancelledError:
        raise RuntimeError("the background loop has stopped") from None
    finally:
        future.cancel()


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
