"""The event loop in the background that the blocking client works on: one thread for the process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_starting = threading.Lock()
_loop: tuple[int, asyncio.AbstractEventLoop] | None = None


def wait(work: Awaitable[T], timeout: float | None = None) -> T:
    """Have the loop do something and wait for the result.

    Raises TimeoutError after `timeout` seconds. The work is cancelled then, and when the waiting is interrupted.
    """
    future = asyncio.run_coroutine_threadsafe(_done(work), _running())
    return _wait(future, timeout)


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on the loop, after all that it was told before, and wait for what it returns."""

    async def called() -> T:
        return function(*args, **kwargs)

    return wait(called())


def _wait(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except CancelledError:
        raise RuntimeError("the background loop has stopped") from None
    finally:
        future.cancel()


async def _done(work: Awaitable[T]) -> T:
    return await work


def _running() -> asyncio.AbstractEventLoop:
    """The loop of this process, started when it is needed first; a forked child needs its own."""
    global _loop
    with _starting:
        if _loop is None or _loop[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="headrace", daemon=True).start()
            _loop = os.getpid(), loop
        return _loop[1]
