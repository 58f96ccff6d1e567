"""Kept outputs: who holds them, what they cost, how long they stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.server.core.deadlines import Deadlines
from headrace.server.core.engine_api import Tensor
from headrace.server.core.quotas import Quota
from headrace.server.core.tickets import KeptOutput, Ticket
from headrace.wire.errors import ResourceExhausted, quote

MIN_CHARGE = 1024
"""What a kept output is charged at least: holding one has a cost of its own, so that bytes bound the count as well."""


class KeptOutputs:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.times: Deadlines[KeptOutput] = Deadlines()

    def prepare(self, ticket: Ticket) -> None:
        """Make the kept outputs of a ticket that is being admitted, so that others can refer to them at once."""
        assert ticket.plan is not None
        ticket.kept = tuple([KeptOutput(ticket, port) for port in ticket.plan.keep])
        ticket.own = {kept.port.index: kept for kept in ticket.kept}

    def hold(self, ticket: Ticket, sources: Sequence[KeptOutput]) -> None:
        """Let a ticket hold its sources, and wait for those that are not there yet."""
        for kept in sources:
            kept.holders += 1
            if kept.tensor is not None:
                self.times.drop(kept)
            elif ticket not in kept.waiters:
                kept.waiters[ticket] = None
                ticket.missing += 1
        ticket.sources = sources

    def let_go(self, ticket: Ticket, now: float) -> None:
        """Let go of the sources of a ticket, which has no use for them any more."""
        for kept in ticket.sources:
            kept.holders -= 1
            kept.waiters.pop(ticket, None)
            if kept.holders:
                self._rest(kept, now)
            else:
                self._free(kept)
        ticket.sources = ()

    def drop(self, kept: KeptOutput) -> None:
        """Let go for the ticket that keeps it: released, taken, or its time is over. Once only."""
        if kept.ticket.own.pop(kept.port.index, None) is None:
            return
        self.times.drop(kept)
        kept.holders -= 1
        if not kept.holders:
            self._free(kept)

    def drop_all(self, ticket: Ticket) -> None:
        for kept in tuple(ticket.own.values()):
            self.drop(kept)

    def reserve(self, ticket: Ticket) -> tuple[int, ...]:
        """Charge what a run will keep, as far as it is known, and return which of plan.keep somebody still wants.

        Raises ResourceExhausted when it does not fit.
        """
        assert ticket.plan is not None
        wanted: list[int] = []
        for position, (kept, nbytes) in enumerate(zip(ticket.kept, ticket.plan.kept_bytes, strict=True)):
            if kept.holders:
                self._charge(kept, nbytes)
                wanted.append(position)
        return tuple(wanted)

    def settle(self, ticket: Ticket, tensors: Sequence[Tensor], now: float) -> None:
        """The run is done: charge what was not known before, and hand the tensors to the holders.

        Raises ResourceExhausted when it does not fit; then nothing is kept.
        """
        for position, tensor in zip(ticket.keep, tensors, strict=True):
            kept = ticket.kept[position]
            if kept.holders:
                self._charge(kept, tensor.nbytes)
        for position, tensor in zip(ticket.keep, tensors, strict=True):
            kept = ticket.kept[position]
            if kept.holders:
                kept.tensor = tensor
                self._rest(kept, now)

    def refund(self, ticket: Ticket) -> None:
        """The runtime has let go: give back what was charged for outputs that did not come to be."""
        for kept in ticket.kept:
            if kept.tensor is None and kept.charged:
                _quota(kept).refund(kept.charged)
                kept.charged = 0

    def expired(self, now: float) -> Iterator[KeptOutput]:
        """The outputs whose keep time is over; each has been dropped."""
        for kept in self.times.pop(now):
            self.drop(kept)
            yield kept

    def _charge(self, kept: KeptOutput, nbytes: int) -> None:
        more = max(nbytes, MIN_CHARGE) - kept.charged
        quota = _quota(kept)
        if more > 0:
            if not quota.fits(more):
                raise ResourceExhausted(
                    f"output {quote(kept.port.name)} of ticket {kept.ticket.tag} takes {nbytes} bytes to keep; "
                    f"this stream keeps {quota.used} of {quota.limit}, and the server has a limit for all"
                )
            quota.charge(more)
            kept.charged += more

    def _rest(self, kept: KeptOutput, now: float) -> None:
        """The keep time runs from the end of the ticket or the last use: while only the ticket itself holds it."""
        if kept.tensor is not None and kept.holders == 1 and kept.port.index in kept.ticket.own:
            self.times.set(kept, now + self._seconds)

    def _free(self, kept: KeptOutput) -> None:
        if kept.tensor is not None:
            kept.tensor = None
            _quota(kept).refund(kept.charged)
            kept.charged = 0


def _quota(kept: KeptOutput) -> Quota:
    return kept.ticket.stream.keep
