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


NO_LIMITS = ClientLimits()


class Client:
    """What a client has in flight. Its limits may change meanwhile."""

    __slots__ = ("_next", "in_flight", "limits", "name", "nbytes")

    def __init__(self, name: str, limits: ClientLimits) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        """Tickets."""
        self.nbytes = 0
        """Of messages whose inputs are held."""
        self._next = float("-inf")
        """From when on it may have another Infer, as if it had never paused."""

    def infer(self, nbytes: int, now: float) -> ResourceExhausted | None:
        """Count an Infer whose message needs `nbytes` more. Returns why it is refused instead, if it is."""
        limits = self.limits
        refused = self.ticket()
        if refused is not None:
            return refused
        if limits.nbytes and self.nbytes + nbytes > limits.nbytes:
            return self._too_many_bytes(nbytes)
        if limits.rate:
            return self._pass(limits, now)
        return None

    def ticket(self) -> ResourceExhausted | None:
        """Why it may not have another ticket, or None."""
        most = self.limits.tickets
        if not most or self.in_flight < most:
            return None
        return ResourceExhausted(
            f"{self.name!r} has {self.in_flight} tickets in flight, which is its limit", retry_after=RETRY_SECONDS
        )

    def _pass(self, limits: ClientLimits, now: float) -> ResourceExhausted | None:
        """Take one of the Infers that its rate allows."""
        interval = 1.0 / limits.rate
        burst = limits.burst or max(1, int(limits.rate))
        if now + _ROUNDING < self._next:
            return ResourceExhausted(
                f"{self.name!r} may ask for {limits.rate:g} inferences a second, and {burst} at once",
                retry_after=self._next - now,
            )
        self._next = max(self._next, now - (burst - 1) * interval) + interval
        return None

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
