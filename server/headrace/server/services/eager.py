"""A coroutine that is begun at once, to be awaited later. (From Python 3.12 on, asyncio.Task does this by itself.)"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class EagerCoroutine:
    """Runs `coroutine` up to its first wait; awaiting this does the rest. An exception is raised there."""

    def __init__(self, coroutine: Coroutine[asyncio.Future[Any] | None, None, Any]) -> None:
        self._coroutine = coroutine
        self._waits: asyncio.Future[Any] | None = None
        """None: nothing, but for the next turn of the loop."""
        self._ended = False
        self._error: BaseException | None = None
        self._result: Any = None
        self._step(None)

    def _step(self, thrown: BaseException | None) -> None:
        try:
            self._waits = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
        except StopIteration as end:
            self._ended = True
            self._result = end.value
        except BaseException as error:
            self._error = error

    @property
    def ready(self) -> bool:
        """Whether awaiting it goes on at once."""
        return self._ended or (self._waits is not None and self._waits.done())

    def cancel(self) -> None:
        """Nobody will await it: stop it and what it waits for, as cancelling a task does. Harmless after its end."""
        if self._waits is not None:
            self._waits.cancel()
        self._coroutine.close()

    def __await__(self) -> Generator[asyncio.Future[Any] | None, None, Any]:
        while not (self._ended or self._error):
            thrown: BaseException | None = None
            try:
                yield self._waits
            except BaseException as outside:
                thrown = outside
            self._step(thrown)
        # Its traceback knows this object: a cycle would keep what was written until the garbage collector comes.
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result
