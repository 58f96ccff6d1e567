"""The tickets that wait for one model, by priority, owner and stream: what `turns` puts into order.

These classes are dicts without an `__init__`: anything else would double their cost. They stay interpreted, since a
compiled class has no room for an OrderedDict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar


class QueuedStream(Protocol):
    """A stream, as far as turns are concerned."""

    passed_over: dict[Any, None]
    """The queues in which it is parked, and maybe others."""

    @property
    def owner(self) -> Hashable: ...
    @property
    def backpressured(self) -> bool: ...
    @property
    def oldest_infer(self) -> object: ...


class Queued(Protocol):
    """A ticket, as far as turns are concerned."""

    priority: int
    ready: float
    """When it was queued for the first time."""
    rows: int
    """Rows that it brings to a shared run; 0 when it cannot share one."""

    @property
    def stream(self) -> QueuedStream: ...


T = TypeVar("T", bound=Queued)


class Line(OrderedDict[T, None]):
    """The tickets of one stream, the oldest first."""

    turn: int
    """The smaller it is, the earlier the next turn. Each number is given once."""
    parked = False


class Lines(dict[QueuedStream, Line[T]]):
    """The lines of one owner."""

    turn: int
    since: float
    """When it had its last turn, or when its first ticket came."""
    order: list[tuple[int, Line[T]]]
    """A heap of the lines that are not parked."""
    waiting = 0
    """Tickets in those."""
    parked = False
    """All of its lines are."""


class Level(dict[Hashable, Lines[T]]):
    """The owners at one priority."""

    turn: int
    order: list[tuple[int, Lines[T]]]
    """A heap of the owners that are not parked."""
    waiting = 0
    """Tickets in lines that are not parked."""
    longest: Lines[T] | None = None
    """The owner that had most of them when somebody last looked, and how often it was asked for since."""
    asked = 0
