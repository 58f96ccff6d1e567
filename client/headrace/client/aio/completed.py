"""Tickets in the order in which they end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import partial

from headrace.client.aio.ticket import Ticket


async def completed(tickets: Iterable[Ticket]) -> AsyncGenerator[Ticket, None]:
    """Yield each ticket once, as soon as it has ended, well or not; awaiting it then does not wait.

    Tickets may be of several streams. Leaving the loop early leaves the tickets as they are.
    """
    waiting: dict[Ticket, asyncio.Future[None]] = {}
    ended: deque[Ticket] = deque()
    news = asyncio.Event()

    def note(ticket: Ticket, _: asyncio.Future[None]) -> None:
        del waiting[ticket]
        ended.append(ticket)
        news.set()

    try:
        for ticket in dict.fromkeys(tickets):
            if ticket.ended:
                ended.append(ticket)
            else:
                waiting[ticket] = ticket.watch()
                waiting[ticket].add_done_callback(partial(note, ticket))
        while ended or waiting:
            while ended:
                yield ended.popleft()
            if waiting:
                news.clear()
                await news.wait()
    finally:
        for ticket, end in waiting.items():
            ticket.unwatch(end)
