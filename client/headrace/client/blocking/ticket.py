"""Tickets, without `await`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt

from headrace.client.aio import completed as async_completed
from headrace.client.aio import ticket as async_ticket
from headrace.client.blocking.background_loop import settle, tell, wait
from headrace.client.protocol.inputs import KeepsOutputs, Reference
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.slices import SliceLike


class Ticket(KeepsOutputs):
    """One inference on a stream, in flight or ended; made by `Stream.submit`."""

    def __init__(self, ticket: async_ticket.Ticket) -> None:
        self._ticket = ticket

    def result(self, timeout: float | None = None) -> Outputs:
        """Wait for the end and return the outputs, or raise the error of the ticket.

        Raises TimeoutError after `timeout` seconds, which does not affect the ticket. Ctrl-C interrupts the waiting.
        """
        if self._ticket.ended:
            return self._ticket.outputs()
        return wait(async_ticket.result(self._ticket), timeout)

    @property
    def ended(self) -> bool:
        """Whether the ticket has ended, so that `result` does not wait."""
        return self._ticket.ended

    def __getitem__(self, name: str) -> Reference:
        """A kept output as an input of a later ticket. Raises KeyError."""
        return self._ticket[name]

    def __contains__(self, name: object) -> bool:
        """Whether an output is kept: it is in `keep`, was not released, and the ticket has not failed."""
        return name in self._ticket

    def __iter__(self) -> Iterator[str]:
        """The names of the kept outputs."""
        return iter(self._ticket)

    @property
    def keep(self) -> tuple[str, ...]:
        """The outputs that were submitted to be kept."""
        return self._ticket.keep

    def take(self, name: str) -> Reference:
        """Like `ticket[name]`, but the output lives only until the run that uses it has ended. Raises KeyError."""
        return self._ticket.take(name)

    def fetch(self, name: str, slice: SliceLike | None = None) -> npt.NDArray[Any]:
        """A kept output, or a slice of it. Arguments and errors are those of `headrace.client.Ticket.fetch`."""
        return wait(self._ticket.fetch(name, slice))

    def release(self, *names: str) -> None:
        """Release kept outputs, or all of them if no name is given. Raises KeyError."""
        tell(self._ticket.release, *names)

    def cancel(self) -> None:
        """End the ticket with Cancelled, unless it ends before the server receives this."""
        tell(self._ticket.cancel)

    @property
    def tag(self) -> int:
        return self._ticket.tag

    @property
    def waiting(self) -> float | None:
        """Seconds that the ticket waited for its sources; None until it is done."""
        return self._ticket.waiting

    @property
    def queued(self) -> float | None:
        """Seconds that the ticket was queued for a slot; None until it is done."""
        return self._ticket.queued

    @property
    def running(self) -> float | None:
        """Seconds that the ticket ran; None until it is done."""
        return self._ticket.running

    def __repr__(self) -> str:
        return repr(self._ticket)


def completed(tickets: Iterable[Ticket]) -> Iterator[Ticket]:
    """Yield each ticket once, as soon as it has ended. Its `result` then does not wait."""
    blocking = {ticket._ticket: ticket for ticket in tickets}
    ends = async_completed.completed(blocking)
    try:
        while (ended := wait(anext(ends, None))) is not None:
            yield blocking[ended]
    finally:
        settle(ends.aclose)
