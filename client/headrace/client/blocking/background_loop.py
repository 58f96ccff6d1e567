"""The event loop of the blocking client, in a background thread: one for the process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import ParamSpec, TypeVar

from headrace.client.protocol.timeouts import clock_seconds

T = TypeVar("T")
P = ParamSpec("P")

_starting = threading.Lock()
_loop: tuple[int, asyncio.AbstractEventLoop] | None = None


def wait(work: Awaitable[T], timeout: float | None = None) -> T:
    """Await something on the background loop, and return its result.

    Raises TimeoutError after `timeout` seconds. Then, and when the waiting is interrupted, the work is cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(_done(work), _running())
    return _wait(future, timeout)


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on the background loop, after everything submitted before, and return its result."""

    async def called() -> T:
        return function(*args, **kwargs)

    return wait(called())


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
