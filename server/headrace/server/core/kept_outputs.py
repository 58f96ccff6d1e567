"""Kept outputs: who holds them, what they are charged, how long they stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.server.core.deadlines import Deadlines
from headrace.server.core.engine_api import Tensor
from headrace.server.core.quotas import Quota
from headrace.server.core.state import KeptOutput, Ticket
from headrace.wire.errors import ResourceExhausted

MIN_CHARGE_BYTES = 1024
"""The least that a kept output is charged: each has a cost of its own, so the quota bounds their number as well."""


class KeptOutputs:
    """`seconds`: how long an output is kept after its last use."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.times: Deadlines[KeptOutput] = Deadlines()

    def prepare(self, ticket: Ticket) -> None:
        """Create the kept outputs of a ticket on its admission, so that later tickets can refer to them at once."""
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
        """Let go of the sources of a ticket that needs them no longer."""
        for kept in ticket.sources:
            kept.holders -= 1
            kept.waiters.pop(ticket, None)
            if kept.holders:
                self._start_keep_time(kept, now)
            else:
                self._free(kept)
        ticket.sources = ()

    def drop(self, kept: KeptOutput) -> None:
        """Let go on behalf of the ticket that keeps it: released, taken, or its time is over. Once only."""
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
        """Charge what a run will keep, as far as it is known; return the positions in plan.keep that have a holder.

        Raises ResourceExhausted when it does not fit.
        """
        assert ticket.plan is not None
        held: list[int] = []
        for position, (kept, nbytes) in enumerate(zip(ticket.kept, ticket.plan.kept_bytes, strict=True)):
            if kept.holders:
                self._charge(kept, nbytes)
                held.append(position)
        return tuple(held)

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
                self._start_keep_time(kept, now)

    def refund(self, ticket: Ticket) -> None:
        """The runtime has let go: return the charges of outputs that were never produced."""
        for kept in ticket.kept:
            if kept.tensor is None and kept.charged:
                _quota(kept).refund(kept.charged)
                kept.charged = 0

    def expired(self, now: float) -> Iterator[KeptOutput]:
        """Drop the outputs whose keep time is over, and yield each."""
        for kept in self.times.pop(now):
            self.drop(kept)
            yield kept

    def _charge(self, kept: KeptOutput, nbytes: int) -> None:
        more = max(nbytes, MIN_CHARGE_BYTES) - kept.charged
        quota = _quota(kept)
        if more > 0:
            if not quota.fits(more):
                raise ResourceExhausted(
                    f"keeping {kept} takes {nbytes} bytes; this "
                    f"stream keeps {quota.used} of {quota.limit} bytes, and there is a limit for the whole server"
                )
            quota.charge(more)
            kept.charged += more

    def _start_keep_time(self, kept: KeptOutput, now: float) -> None:
        """It runs from the end of the ticket or the last use, while only the ticket itself holds the output."""
        if kept.tensor is not None and kept.holders == 1 and kept.port.index in kept.ticket.own:
            self.times.set(kept, now + self._seconds)

    def _free(self, kept: KeptOutput) -> None:
        if kept.tensor is not None:
            kept.tensor = None
            _quota(kept).refund(kept.charged)
            kept.charged = 0


def _quota(kept: KeptOutput) -> Quota:
    return kept.ticket.stream.keep
