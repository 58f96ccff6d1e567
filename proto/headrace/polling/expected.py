"""Events of a completion queue that must not get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Expected:
    """A tag whose event must not get lost: grpcio drops one that it has no memory for, with an error from its poll.

    `called` is called with the event, or else `lost`.
    """

    __slots__ = ("_called", "_lost")

    def __init__(self, called: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._called = called
        self._lost: Callable[[], None] | None = lost

    def __call__(self, event: Any) -> None:
        self._lost = None
        self._called(event)

    def __del__(self) -> None:
        if self._lost is not None:
            self._lost()
