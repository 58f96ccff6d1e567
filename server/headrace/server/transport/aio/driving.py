"""Runs a coroutine without a task, and calls back with what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Driven(Generic[T]):
    """Runs `coroutine` up to its first wait at once, and `callback` with its result or its error in a later turn.

    The coroutine waits for futures and turns of the event loop only, and does not ask for its task.
    """

    __slots__ = ("_callback", "_coroutine", "_loop")

    def __init__(
        self, coroutine: Coroutine[Any, None, T], callback: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._coroutine = coroutine
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._step(None, begins=True)

    def _step(self, _future: object = None, *, begins: bool = False) -> None:
        del _future  # it knows its error, whose traceback will know this frame
        try:
            waits_for = self._coroutine.send(None)
        except StopIteration as end:
            self._end(end.value, None, later=begins)
        except (Exception, asyncio.CancelledError) as error:
            self._end(None, error, later=begins)
        else:
            if waits_for is None:
                self._loop.call_soon(self._step)
            else:
                waits_for.add_done_callback(self._step)

    def _end(self, result: T | None, error: BaseException | None, *, later: bool) -> None:
        if later:
            self._loop.call_soon(self._callback, result, error)
        else:
            self._callback(result, error)
