"""A stream of the core in the hands of its service: each method tells the core something, and acts on it."""

from __future__ import annotations

import asyncio
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
    """`services.api.StreamHandle`. One task reads for the stream, one writes."""

    __slots__ = ("_act", "_core", "_driver", "_now", "_readable", "_writable", "stream", "take", "window")

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._driver = driver
        self._core, self._act, self._now = driver.core, driver.act, driver.now
        self.stream = stream
        self._writable: asyncio.Future[None] | None = None
        self._readable: asyncio.Future[None] | None = None
        self.take = stream.take
        self.window = stream.window

    @property
    def ended(self) -> bool:
        return self.stream.ended

    @property
    def half_closed(self) -> bool:
        return self.stream.half_closed

    @property
    def has_events(self) -> bool:
        return bool(self.stream.outbox)

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
        self._core.handed_off(stream, events, self._now())
        if self._readable is not None and stream.may_read:
            _wake(self._readable)
        self._act()

    def flushed(self) -> None:
        if self._core.flushed(self.stream):
            self._act()

    async def wait_for_events(self) -> bool:
        stream = self.stream
        if not stream.outbox and not stream.ended:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable
            self._writable = None
        return not stream.ended

    async def wait_until_readable(self) -> None:
        stream = self.stream
        while not stream.may_read and not stream.ended:
            self._readable = asyncio.get_running_loop().create_future()
            await self._readable
            self._readable = None

    def wake_writer(self) -> None:
        """The stream has events, or has ended."""
        _wake(self._writable)

    def close(self) -> None:
        self._driver.abandon(self.stream)
        _wake(self._writable)
        _wake(self._readable)

    def __repr__(self) -> str:
        return f"<StreamHandle {self.stream}>"


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
