"""One inference for each item of a source, however long it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import numpy.typing as npt

from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.inputs import Inputs

AHEAD = 16
"""How many inferences are under way at once, when not said."""

Source = Iterable[Inputs] | AsyncIterable[Inputs]
Outputs = Mapping[str, npt.NDArray[Any]]
Submit = Callable[[Inputs], Awaitable[Ticket]]


async def map_in_order(submit: Submit, source: Source, ahead: int) -> AsyncGenerator[Outputs, None]:
    """The outputs for each item, in the order of the source.

    At most `ahead` items are pulled beyond the results that were taken. Where the source has to be waited for, results
    that are there do not wait with it. The first error, of a ticket or of the source, is raised in its turn; leaving
    early, by it or otherwise, cancels what is in flight.
    """
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}, at least 1 is needed")
    items = _Source(source)
    tickets: deque[Ticket] = deque()
    try:
        while True:
            while len(tickets) < ahead and await items.ready(tickets[0] if tickets else None):
                tickets.append(await submit(items.take()))
            if not tickets:
                items.check()
                return
            outputs = await tickets[0]
            tickets.popleft()
            yield outputs
    finally:
        for ticket in tickets:
            ticket.cancel()
        await items.close()


class _Source:
    """The items of an iterable of either kind."""

    def __init__(self, source: Source) -> None:
        self._now = None if isinstance(source, AsyncIterable) else iter(source)
        self._later = aiter(source) if isinstance(source, AsyncIterable) else None
        self._pull: asyncio.Task[Inputs | None] | None = None
        self._item: Inputs | None = None
        self._error: Exception | None = None

    async def ready(self, oldest: Ticket | None) -> bool:
        """Whether there is an item to take. Waits for one, but not beyond the end of the oldest ticket."""
        if self._error is not None:
            return False
        try:
            return await self._ready(oldest)
        except Exception as error:
            self._error = error
            return False

    def check(self) -> None:
        """Raises what the source has raised."""
        if self._error is not None:
            raise self._error

    async def _ready(self, oldest: Ticket | None) -> bool:
        if self._now is not None:
            self._item = next(self._now, None)
            return self._item is not None
        assert self._later is not None
        if self._pull is None:
            self._pull = asyncio.ensure_future(_next(self._later))
        if oldest is not None:
            await _first(self._pull, oldest)
            if not self._pull.done():
                return False
        self._item = await self._pull
        if self._item is not None:
            self._pull = None  # else it stays, so that nothing is pulled behind the end
        return self._item is not None

    def take(self) -> Inputs:
        item, self._item = self._item, None
        assert item is not None
        return item

    async def close(self) -> None:
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.gather(self._pull, return_exceptions=True)


async def _next(source: AsyncIterator[Inputs]) -> Inputs | None:
    return await anext(source, None)


async def _first(pull: asyncio.Task[Inputs | None], ticket: Ticket) -> None:
    """Wait until one of them is done."""
    if ticket.ended or pull.done():
        return
    end = ticket.watch()
    try:
        await asyncio.wait((pull, end), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ticket.unwatch(end)
