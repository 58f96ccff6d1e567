"""Tickets as an application sees them: await, chain, fetch from, cancel and release them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from headrace.client.aio.awaitable_ticket import AwaitableTicket
from headrace.client.aio.fetching import fetch
from headrace.client.protocol.inputs import Reference
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.slices import SliceLike


class Ticket(AwaitableTicket):
    """One inference on a stream, in flight or ended; made by `Stream.submit`.

    `await ticket` waits for its end and returns the requested outputs by name, as read-only arrays, or raises the error
    with which the ticket ended (any `HeadraceError`). Several tasks may await it, and as often as they like. Cancelling
    a task that awaits it does not affect the ticket.

    The result belongs to the ticket, and lives as long as the ticket or the arrays do. Outputs in `keep` stay on the
    server, even if this object is dropped, until they are released, the server's keep time has passed, or the stream
    has ended.
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> Reference:
        """A kept output as an input of a later ticket of this stream. It need not exist yet.

        `ticket["z"][2:3]` is a part of it: see `Reference`.

        Raises KeyError for an output that is not in `keep` (or an input in `keep_inputs`), or was released.
        """
        self.check_kept(name)
        return Reference(self.owner.protocol, self.tag, name, False, self)

    def __contains__(self, name: object) -> bool:
        """Whether an output is kept: it is in `keep`, was not released, and the ticket has not failed."""
        return name in self.kept

    def __iter__(self) -> Iterator[str]:
        """The names of the kept outputs."""
        return iter(self.kept)

    def take(self, name: str) -> Reference:
        """Like `ticket[name]`, but the output lives only until the run that uses it has ended.

        The output is taken when the server admits the ticket that refers to it. A refused ticket takes nothing, so it
        may be submitted again. Once an output is taken, other tickets that refer to it fail with FailedPrecondition.

        Raises KeyError for an output that is not in `keep`, or was released.
        """
        self.check_kept(name)
        return Reference(self.owner.protocol, self.tag, name, True, self)

    async def fetch(self, name: str, slice: SliceLike | None = None) -> npt.NDArray[Any]:
        """A kept output, or a part of it, as a read-only array. The output stays on the server.

        `slice` is one `(start, stop)`, or a sequence with one for each leading axis; without it the whole output is
        fetched. Or it is an index of NumPy without steps, which means what it means there: `np.s_[0:10, :5]`,
        `np.s_[-1]`, `np.s_[..., :5]`. Waits for a place in the window and for the end of this ticket. An output larger
        than a message comes in several pieces, and needs memory for itself and for about 32 MiB more.

        Raises KeyError for an output that is not in `keep`, or was released; InvalidArgument for a `(start, stop)`
        outside the output, and IndexError for an integer outside its axis; NotFound if the server no longer has the
        output (it was taken, its keep time has passed, or the ticket failed); Unavailable if the stream has ended.
        """
        self.check_kept(name)
        self.owner.check_loop()
        return await fetch(self.owner, self, name, slice)

    def release(self, *names: str) -> None:
        """Release kept outputs, or all of them if no name is given. Tickets that already refer to them still get them.

        Raises KeyError for an output that is not in `keep`. Releasing an output again has no effect.
        """
        self.owner.release(self, names)

    def cancel(self) -> None:
        """End the ticket with Cancelled, unless it ends before the server receives this.

        Tickets that refer to its outputs end with FailedPrecondition.
        """
        self.owner.cancel(self)

    @property
    def waiting(self) -> float | None:
        """Seconds that the ticket waited for its sources; None until it is done."""
        return None if self.times is None else self.times[0] / 1e6

    @property
    def queued(self) -> float | None:
        """Seconds that the ticket was queued for a slot; None until it is done."""
        return None if self.times is None else self.times[1] / 1e6

    @property
    def running(self) -> float | None:
        """Seconds that the ticket ran; None until it is done."""
        return None if self.times is None else self.times[2] / 1e6


async def result(ticket: Ticket) -> Outputs:
    """`await ticket` as a coroutine."""
    return await ticket
