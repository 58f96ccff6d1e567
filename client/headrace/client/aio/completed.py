"""Tickets in the order in which they end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import partial

from headrace.client.aio.ticket import Ticket


async def completed(tickets: Iterable[Ticket]) -> AsyncGenerator[Ticket, None]:
    """Yield each ticket once, as soon as it has ended, with a result or an error. Awaiting it then does not wait.

    The tickets may belong to several streams. Leaving the loop early does not affect the tickets.
    """
    waiting: dict[Ticket, asyncio.Future[None]] = {}
    ended: deque[Ticket] = deque()
    changed = asyncio.Event()

    def on_end(ticket: Ticket, _: asyncio.Future[None]) -> None:
        del waiting[ticket]
        ended.append(ticket)
        changed.set()

    try:
        for ticket in dict.fromkeys(tickets):
            if ticket.ended:
                ended.append(ticket)
            else:
                waiting[ticket] = ticket.add_waiter()
                waiting[ticket].add_done_callback(partial(on_end, ticket))
        while ended or waiting:
            while ended:
                yield ended.popleft()
            if waiting:
                changed.clear()
                await changed.wait()
    finally:
        for ticket, waiter in waiting.items():
            ticket.remove_waiter(waiter)
