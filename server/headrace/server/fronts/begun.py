"""A coroutine that is begun at once, to be awaited later. (From Python 3.12 on, asyncio.Task does this by itself.)"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Begun:
    """Runs `coroutine` up to its first wait; awaiting this does the rest. An exception is raised there."""

    def __init__(self, coroutine: Coroutine[asyncio.Future[Any], None, None]) -> None:
        self._coroutine = coroutine
        self._waits: asyncio.Future[Any] | None = None
        self._end: BaseException | None = None
        self._step(None)

    def _step(self, thrown: BaseException | None) -> None:
        try:
            self._waits = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
        except BaseException as end:
            self._end = end

    def __await__(self) -> Generator[asyncio.Future[Any], None, None]:
        while self._end is None:
            assert self._waits is not None
            thrown: BaseException | None = None
            try:
                yield self._waits
            except BaseException as error:
                thrown = error
            self._step(thrown)
        if not isinstance(self._end, StopIteration):
            raise self._end
