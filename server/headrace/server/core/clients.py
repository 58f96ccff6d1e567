"""Clients that have limits of their own, over all their streams: how fast they may ask, and for how much at once."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.wire.errors import ResourceExhausted

RETRY_SECONDS = 0.1
"""When to try again what waits for the client's own tickets to end: nobody knows when that is."""
_ROUNDING = 1e-9
"""Seconds by which sums of times may be off: whoever waits as long as it was told is not refused for them."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """`rate` is Infers a second, of which `burst` may come at once after a pause; `tickets` and `nbytes` of inputs may
    be in flight. 0 is no limit; of `burst` it is as many as in a second, and at least one.
    """

    rate: float = 0.0
    burst: int = 0
    tickets: int = 0
    nbytes: int = 0

    @property
    def most_at_once(self) -> int:
        """Infers, after a pause."""
        return self.burst or max(1, int(self.rate))

    def share(self, count: int) -> ClientLimits:
        """The same for one of `count` servers that have them together. Whole numbers are rounded up."""
        burst, tickets, nbytes = (-(-each // count) for each in (self.burst, self.tickets, self.nbytes))
        return ClientLimits(self.rate / count, burst, tickets, nbytes)


NO_LIMITS = ClientLimits()


class Client:
    """What a client has in flight. Its limits may change meanwhile."""

    __slots__ = ("_next", "calls", "in_flight", "limits", "name", "nbytes")

    def __init__(self, name: str, limits: ClientLimits) -> None:
        self.name = name
        self.limits = limits
        self.calls = 0
        """Those that are open: streams, and unary calls that are still to be handled."""
        self.in_flight = 0
        """Tickets."""
        self.nbytes = 0
        """Of messages whose inputs are held."""
        self._next = float("-inf")
        """From when on it may have another Infer, as if it had never paused."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing refers to it, so that another object may stand for it later."""
        return not (self.calls or self.in_flight or self.nbytes)

    def is_rested(self, now: float) -> bool:
        """Whether it may have a whole burst, as one that is new."""
        limits = self.limits
        return not limits.rate or self._next <= now - (limits.most_at_once - 1) / limits.rate

    def infer(self, nbytes: int, now: float) -> ResourceExhausted | None:
        """Why it may not have an Infer whose message needs `nbytes` more, or None."""
        limits = self.limits
        refused = self.ticket()
        if refused is not None:
            return refused
        if limits.nbytes and self.nbytes + nbytes > limits.nbytes:
            return self._too_many_bytes(nbytes)
        if limits.rate and now + _ROUNDING < self._next:
            return self._too_fast(limits, now)
        return None

    def ticket(self) -> ResourceExhausted | None:
        """Why it may not have another ticket, or None."""
        most = self.limits.tickets
        if not most or self.in_flight < most:
            return None
        return ResourceExhausted(
            f"{self.name!r} has {self.in_flight} tickets in flight, which is its limit", retry_after=RETRY_SECONDS
        )

    def admitted(self, now: float) -> None:
        """It has one more Infer: one of those that its rate allows, whatever becomes of it."""
        limits = self.limits
        if limits.rate:
            interval = 1.0 / limits.rate
            self._next = max(self._next, now - (limits.most_at_once - 1) * interval) + interval

    def _too_fast(self, limits: ClientLimits, now: float) -> ResourceExhausted:
        return ResourceExhausted(
            f"{self.name!r} may ask for {limits.rate:g} inferences a second, and {limits.most_at_once} at once",
            retry_after=self._next - now,
        )

    def _too_many_bytes(self, nbytes: int) -> ResourceExhausted:
        most = self.limits.nbytes
        if nbytes > most:
            return ResourceExhausted(
                f"a message that takes {nbytes} bytes never fits: {self.name!r} may have {most} of inputs in flight",
                retryable=False,
            )
        return ResourceExhausted(
            f"{nbytes} more input bytes do not fit: {self.name!r} has {self.nbytes} in flight, and may have {most}",
            retry_after=RETRY_SECONDS,
        )

    def __repr__(self) -> str:
        return f"<Client {self.name!r}, {self.in_flight} tickets and {self.nbytes} bytes in flight>"
