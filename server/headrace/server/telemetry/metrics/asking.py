"""Asks the event loop from other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MAX_SECONDS = 5.0
"""How long the event loop may take to answer."""


class NoAnswerError(Exception):
    """The event loop does nothing, or not any more. The message is a sentence for the operator."""


class Asker:
    """Asks the loop that it is made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` returns on the event loop, for another thread. Raises NoAnswerError, and what it raises."""

        async def answer() -> T:
            return question()

        return self.wait_for(answer())

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns on the event loop. Raises the same."""
        try:
            answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise NoAnswerError("the server has stopped") from None
        try:
            return answer.result(MAX_SECONDS)
        except TimeoutError:
            answer.cancel()
            raise NoAnswerError(f"the event loop has done nothing for {MAX_SECONDS:g} s") from None
