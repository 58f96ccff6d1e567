"""Asks the event loop from other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

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
        answer: Future[T] = Future()

        def reply() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(question())
                except Exception as error:
                    answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(reply)
        except RuntimeError:
            raise NoAnswerError("the server has stopped") from None
        try:
            return answer.result(MAX_SECONDS)
        except TimeoutError:
            answer.cancel()
            raise NoAnswerError(f"the event loop has done nothing for {MAX_SECONDS:g} s") from None
