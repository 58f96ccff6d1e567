"""Blocking work beside the event loop, on threads that do not delay the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(name: str, work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, but on a daemon thread of this name. A call that is cancelled does not stop the work."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(results: list[T], error: BaseException | None) -> None:
        if done.done():  # cancelled
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(results[0])

    def run() -> None:
        results: list[T] = []
        error = None
        try:
            results.append(work())
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(settle, results, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
