"""The part of a ticket that asyncio needs: tasks can await its end."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.transport.stream_transport import StreamTransport
from headrace.client.transport.waker import Waiter
from headrace.wire.errors import HeadraceError


class AwaitableTicket(TicketState):
    """A ticket that any number of tasks can await. As it is, it serves for a Fetch."""

    __slots__ = ()

    owner: StreamTransport

    def __await__(self) -> Generator[Any, None, Outputs]:
        if self.layout is None and self.error is None:
            if asyncio._get_running_loop() is not self.owner.loop:
                self.owner.check_loop()
            waiter = self.owner.waker.waiter()
            self._add(waiter)
            try:
                yield waiter
            finally:
                self.remove_waiter(waiter)
        return self.outputs()

    def add_waiter(self) -> asyncio.Future[None]:
        """A future that is done when this ticket ends, for code that does more than await it.

        The ticket has not ended yet. Each caller gets a future of its own, because cancelling a task cancels the future
        that it awaits.
        """
        waiter = self.owner.loop.create_future()
        self._add(waiter)
        return waiter

    def remove_waiter(self, waiter: Waiter | asyncio.Future[None]) -> None:
        """Forget a waiter. Has no effect once the ticket has ended."""
        if self.waiters is not None:
            self.waiters.remove(waiter)

    async def wait_ended(self) -> None:
        """Wait for the end, whether it is a result or an error."""
        with suppress(HeadraceError):
            await self

    def _add(self, waiter: Waiter | asyncio.Future[None]) -> None:
        if self.waiters is None:
            self.waiters = [waiter]
        else:
            self.waiters.append(waiter)
