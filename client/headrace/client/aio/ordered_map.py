"""One inference for each item of a source, with the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, Generic, Literal, TypeVar

from headrace.client.aio.threaded_items import ThreadedItems
from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.layouts import Outputs
from headrace.wire.errors import HeadraceError

AHEAD = 16
"""The default number of inferences in flight."""

Item = TypeVar("Item", bound=Inputs)
Source = Iterable[Item] | AsyncIterable[Item]
Errors = Literal["raise", "return"]
_IN_MEMORY = (list, tuple, deque, set, frozenset)
"""Their items are there already: reading them takes no thread."""


async def map_in_order(
    submit: Callable[[Item], Awaitable[Ticket]],
    source: Source[Item],
    ahead: int,
    errors: Errors,
    with_items: bool,
    is_closed: Callable[[], bool],
) -> AsyncGenerator[Any, None]:
    """Yield the outputs for each item, in the order of the source; with `with_items`, pairs of item and outputs.

    At most `ahead` items are read beyond the results that were taken. They are read and submitted in a task of their
    own, so that neither a slow source holds back results, nor a slow consumer the sending of what comes meanwhile.

    The first error, of a ticket or of the source, is raised in its turn. With `errors="return"` an error of an item
    comes instead of its outputs; then only what ends the source or the stream (`is_closed`) is raised. Leaving early,
    because of an error or not, cancels the tickets in flight.
    """
    feeder = _Feeder(submit, source, ahead, errors == "return", is_closed)
    try:
        while await feeder.ready():
            item, ticket = feeder.pending[0]
            result: Outputs | Exception
            if isinstance(ticket, Exception):
                result = ticket
            else:
                try:
                    result = await ticket
                except HeadraceError as error:
                    if errors == "raise":
                        raise
                    result = error
            yield (item, result) if with_items else result
            feeder.take()
    finally:
        await feeder.close()


def check_map(source: object, ahead: int, errors: str) -> None:
    """Raises ValueError or TypeError for arguments that `map` does not take."""
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}; it must be at least 1")
    if errors not in ("raise", "return"):
        raise ValueError(f"errors is {errors!r}; it must be 'raise' or 'return'")
    if isinstance(source, Mapping):
        raise TypeError("map takes an iterable of inputs, not the inputs of one inference: write [inputs]")


class _Feeder(Generic[Item]):
    """Submits the items of a source, in a task of its own, while fewer than `ahead` are pending."""

    def __init__(
        self,
        submit: Callable[[Item], Awaitable[Ticket]],
        source: Source[Item],
        ahead: int,
        return_errors: bool,
        is_closed: Callable[[], bool],
    ) -> None:
        self.pending: deque[tuple[Item, Ticket | Exception]] = deque()
        """The items whose results were not taken, with their tickets, or with the error that `submit` has raised."""
        self._submit = submit
        self._ahead = ahead
        self._return_errors = return_errors
        self._is_closed = is_closed
        self._items = _items(source, ahead)
        self._ended = False
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Future[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._task = asyncio.create_task(self._feed(), name="headrace map")

    async def ready(self) -> bool:
        """Wait until an item is pending; False at the end of the source. Raises the error that ended it."""
        while not self.pending:
            if self._error is not None:
                raise self._error
            if self._ended:
                return False
            self._news = self._loop.create_future()
            await self._news
        return True

    def take(self) -> None:
        """The consumer has finished with the result of the oldest pending item, and asks for the next one."""
        self.pending.popleft()
        self._items.allow()
        _set(self._room)

    async def close(self) -> None:
        """Stop reading, and cancel the tickets in flight."""
        self._task.cancel()
        for _, ticket in self.pending:
            if isinstance(ticket, Ticket):
                ticket.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._items.close()

    async def _feed(self) -> None:
        try:
            while True:
                while len(self.pending) >= self._ahead:
                    self._room = self._loop.create_future()
                    await self._room
                item = await self._items.next()
                self.pending.append((item, await self._ticket(item)))
                _set(self._news)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            _set(self._news)

    async def _ticket(self, item: Item) -> Ticket | Exception:
        try:
            return await self._submit(item)
        except Exception as error:
            if not self._return_errors or self._is_closed():
                raise
            return error


def _set(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class _AsyncItems(Generic[Item]):
    def __init__(self, source: AsyncIterable[Item]) -> None:
        self._items: AsyncIterator[Item] = aiter(source)

    async def next(self) -> Item:
        return await anext(self._items)

    def allow(self) -> None:
        pass

    def close(self) -> None:
        pass


class _ItemsInMemory(Generic[Item]):
    def __init__(self, source: Collection[Item]) -> None:
        self._items: Iterator[Item] = iter(source)

    async def next(self) -> Item:
        for item in self._items:
            return item
        raise StopAsyncIteration

    def allow(self) -> None:
        pass

    def close(self) -> None:
        pass


def _items(source: Source[Any], ahead: int) -> _AsyncItems[Any] | _ItemsInMemory[Any] | ThreadedItems[Any]:
    if isinstance(source, AsyncIterable):
        return _AsyncItems(source)
    if isinstance(source, _IN_MEMORY):
        return _ItemsInMemory(source)
    return ThreadedItems(source, ahead)
