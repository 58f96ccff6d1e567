"""A stream of the core in the hands of its service: each method tells the core something, and acts on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol

from headrace.server.core.core import Core
from headrace.server.core.events import Event
from headrace.server.core.state import Stream

P = ParamSpec("P")


class Driver(Protocol):
    """The dispatcher, as far as a handle needs it."""

    core: Core
    now: Callable[[], float]

    def act(self) -> None: ...
    def abandon(self, stream: Stream) -> None: ...


class StreamHandle:
    """`services.api.StreamHandle`."""

    __slots__ = ("_act", "_core", "_driver", "_now", "on_news", "on_readable", "stream", "take", "window")

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._driver = driver
        self._core, self._act, self._now = driver.core, driver.act, driver.now
        self.stream = stream
        self.on_news: Callable[[], None] | None = None
        self.on_readable: Callable[[], None] | None = None
        self.take = stream.take
        self.window = stream.window

    @property
    def ended(self) -> bool:
        return self.stream.ended

    @property
    def half_closed(self) -> bool:
        return self.stream.half_closed

    @property
    def was_asked_to_move(self) -> bool:
        return self.stream.asked_to_move and not self._core.draining

    @property
    def in_flight(self) -> int:
        return self.stream.in_flight

    @property
    def has_events(self) -> bool:
        return bool(self.stream.outbox)

    @property
    def may_read(self) -> bool:
        return self.stream.may_read

    def submit(
        self, apply: Callable[Concatenate[Core, Stream, float, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        apply(self._core, self.stream, self._now(), *args, **kwargs)
        self._act()

    def half_close(self) -> None:
        self._core.half_close(self.stream)
        self._act()

    def handed_off(self, events: Sequence[Event]) -> None:
        stream = self.stream
        undecided = self._core.handed_off(stream, events, self._now())
        if self.on_readable is not None and stream.may_read:
            self._wake_reader()
        if undecided:
            self._act()

    def flushed(self) -> None:
        if self._core.flushed(self.stream):
            self._act()

    def wake_writer(self) -> None:
        """The stream has events, or has ended."""
        if self.on_news is not None:
            self.on_news()

    def close(self) -> None:
        self._driver.abandon(self.stream)
        self.wake_writer()
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self.on_readable is not None:
            on_readable, self.on_readable = self.on_readable, None
            on_readable()

    def __repr__(self) -> str:
        return f"<StreamHandle {self.stream}>"
