"""Blocking work beside the event loop, on a thread that does not delay the end of the process."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """A daemon thread that does one thing after another, and lives as long as the process.

    A trial ends with the thread that has started its process, so a process that is started for the next trial needs
    that.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, when its turn has come. A call that is cancelled does not stop it once it has begun."""
        if not self._thread.ident:
            self._thread.start()
        run, done = _job(work)
        self._jobs.put(run)
        return await done

    def _work(self) -> None:
        while True:
            self._jobs.get()()


def _job(work: Callable[[], T]) -> tuple[Callable[[], None], asyncio.Future[T]]:
    """A function that does the work on another thread, and the future of its result."""
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
        if done.cancelled():  # while it waited for its turn
            return
        results: list[T] = []
        error = None
        try:
            results.append(work())
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(settle, results, error)

    return run, done
