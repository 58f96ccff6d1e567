"""One inference for each item of a source, with the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.layouts import Outputs

AHEAD = 16
"""The default number of inferences in flight."""

Source = Iterable[Inputs] | AsyncIterable[Inputs]
Submit = Callable[[Inputs], Awaitable[Ticket]]


async def map_in_order(submit: Submit, source: Source, ahead: int) -> AsyncGenerator[Outputs, None]:
    """Yield the outputs for each item, in the order of the source.

    At most `ahead` items are read beyond the results that were taken. A slow async source does not hold back results
    that are ready. The first error, of a ticket or of the source, is raised in its turn. Leaving early, because of an
    error or not, cancels the tickets in flight.
    """
    check_ahead(ahead)
    items = _Source(source)
    tickets: deque[Ticket] = deque()
    try:
        while True:
            while len(tickets) < ahead and await items.ready(tickets[0] if tickets else None):
                tickets.append(await submit(items.take()))
            if not tickets:
                items.raise_error()
                return
            outputs = await tickets[0]
            tickets.popleft()
            yield outputs
    finally:
        for ticket in tickets:
            ticket.cancel()
        await items.close()


def check_ahead(ahead: int) -> None:
    """Raises ValueError for less than 1."""
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}; it must be at least 1")


class _Source:
    """The items of an iterable or async iterable."""

    def __init__(self, source: Source) -> None:
        self._sync = None if isinstance(source, AsyncIterable) else iter(source)
        self._async = aiter(source) if isinstance(source, AsyncIterable) else None
        self._pull: asyncio.Task[Inputs | None] | None = None
        self._item: Inputs | None = None
        self._error: Exception | None = None

    async def ready(self, oldest: Ticket | None) -> bool:
        """Whether there is an item to take. Waits for one, but only until the oldest ticket has ended."""
        if self._error is not None:
            return False
        try:
            return await self._ready(oldest)
        except Exception as error:
            self._error = error
            return False

    def raise_error(self) -> None:
        """Raise the error of the source, if there was one."""
        if self._error is not None:
            raise self._error

    async def _ready(self, oldest: Ticket | None) -> bool:
        if self._sync is not None:
            self._item = next(self._sync, None)
            return self._item is not None
        assert self._async is not None
        if self._pull is None:
            self._pull = asyncio.ensure_future(_next(self._async))
        if oldest is not None:
            await _wait_either(self._pull, oldest)
            if not self._pull.done():
                return False
        self._item = await self._pull
        if self._item is not None:
            self._pull = None  # at the end it stays, so that the source is not read again
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


async def _wait_either(pull: asyncio.Task[Inputs | None], ticket: Ticket) -> None:
    """Wait until the next item is there or the ticket has ended."""
    if ticket.ended or pull.done():
        return
    end = ticket.add_waiter()
    try:
        await asyncio.wait((pull, end), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ticket.remove_waiter(end)
