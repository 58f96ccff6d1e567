"""Tickets as an application sees them: to await, chain, fetch from, cancel and release."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from headrace.client.aio.fetching import fetch
from headrace.client.protocol.inputs import Reference
from headrace.client.protocol.slices import SliceLike, as_slices
from headrace.client.protocol.ticket_state import TicketState
from headrace.wire.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.client.transport.stream_transport import StreamTransport
    from headrace.client.transport.waker import Waiter


class Ticket(TicketState):
    """One inference on a stream, in flight or ended; made by `Stream.submit`.

    `await ticket` waits for its end and gives the outputs that were asked for, by name, as
    read-only arrays; or it raises the error with which the ticket ended (any `HeadraceError`). It
    may be awaited often and by several tasks. Cancelling a task that awaits it changes nothing for
    the ticket.

    The result belongs to the ticket: it lives as long as the ticket or the arrays do. What is in
    `keep` stays on the server, also when this object is dropped, until it is released, the server's
    keep time has passed, or the stream has ended.
    """

    __slots__ = ()

    owner: StreamTransport

    def __await__(self) -> Generator[Any, None, Mapping[str, npt.NDArray[Any]]]:
        if self.layout is None and self.error is None:
            waiter = self.owner.alarm.waiter()
            self._add(waiter)
            try:
                yield waiter
            finally:
                self.unwatch(waiter)
        return self.outputs()

    def _add(self, waiter: Waiter | asyncio.Future[None]) -> None:
        if self.waiters is None:
            self.waiters = [waiter]
        else:
            self.waiters.append(waiter)

    def watch(self) -> asyncio.Future[None]:
        """A future that is done when this ticket, which has not ended, has: for those who need more than to await it.

        One for each who waits, and only then: cancelling a task cancels the future that it waits for.
        """
        waiter = self.owner.loop.create_future()
        self._add(waiter)
        return waiter

    def unwatch(self, waiter: Waiter | asyncio.Future[None]) -> None:
        """Whoever had `watch` does not wait any more."""
        if self.waiters is not None:
            self.waiters.remove(waiter)

    async def settled(self) -> None:
        """Wait for the end, whatever it is."""
        with suppress(HeadraceError):
            await self

    def __getitem__(self, name: str) -> Reference:
        """A kept output, as an input of a later ticket of this stream; it need not be there yet.

        Raises KeyError for an output that is not in `keep`, or was released.
        """
        self.check_kept(name)
        return Reference(self.owner.state, self.tag, name)

    def take(self, name: str) -> Reference:
        """As `ticket[name]`, and the output lives no longer than the run that uses it.

        It is taken when the server admits the ticket that it is submitted with; one that is refused
        takes nothing, so it may be submitted again. What was taken is not there for others: they
        fail with FailedPrecondition.
        """
        self.check_kept(name)
        return Reference(self.owner.state, self.tag, name, take=True)

    async def fetch(self, name: str, slice: SliceLike | None = None) -> npt.NDArray[Any]:
        """A kept output, or a part of it, as a read-only array. It stays on the server.

        `slice` is one `(start, stop)` or a sequence of them, one for each leading axis; without it
        the output comes whole. It waits for room in the window and for this ticket's end. An output
        that is larger than a message comes in several and needs memory for itself and about 32 MiB
        more.

        Raises KeyError for an output that is not in `keep`, or was released; InvalidArgument for a
        slice that is not inside; NotFound when the server has it no more (taken, keep time over, or
        the ticket failed); Unavailable when the stream has ended.
        """
        self.check_kept(name)
        return await fetch(self.owner, self, name, as_slices(slice))

    def release(self, *names: str) -> None:
        """Let go of kept outputs, or of all when none is named; who refers to them still gets them.

        Raises KeyError for an output that is not in `keep`. What was released before is ignored.
        """
        self.owner.release(self, names)

    def cancel(self) -> None:
        """End the ticket with Cancelled, unless it ends before the server hears of this.

        Tickets that refer to it end with FailedPrecondition.
        """
        self.owner.cancel(self)

    @property
    def waiting(self) -> float | None:
        """Seconds until its sources were there; None before the ticket is done."""
        return None if self.times is None else self.times[0] / 1e6

    @property
    def queued(self) -> float | None:
        """Seconds until a slot was free; None before the ticket is done."""
        return None if self.times is None else self.times[1] / 1e6

    @property
    def running(self) -> float | None:
        """Seconds in the runtime; None before the ticket is done."""
        return None if self.times is None else self.times[2] / 1e6


async def result(ticket: Ticket) -> Mapping[str, npt.NDArray[Any]]:
    """`await ticket`, where a coroutine is needed."""
    return await ticket
