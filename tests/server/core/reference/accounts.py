"""What is charged to each account of the budget, and what fits: a stream may have no more than it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.server.core.limits import Limits
from tests.server.core.reference.expected import ExpectedCharge, ExpectedStream

TICKET_BYTES = 1024
EVENT_BYTES = 512
PROVEN_BYTES = 100
"""Of a walk: small outputs are sent to clients that have not taken any yet."""
ACCOUNTS = ("queue", "unsent", "keep", "tickets", "definitions")


class ExpectedAccounts:
    """`streams` are those of the walk, a list that grows."""

    def __init__(self, limits: Limits, streams: Sequence[ExpectedStream]) -> None:
        self._streams = streams
        self._limits = limits
        memory = limits.memory
        self.limits = {
            "queue": limits.queue_bytes,
            "unsent": memory // 2,
            "keep": min(limits.keep_bytes_total, memory // 2),
            "tickets": memory // 4,
            "definitions": memory // 4,
        }

    def used(self, account: str) -> int:
        return sum(_USED[account](stream) for stream in self._streams)

    def share(self, account: str, stream: ExpectedStream) -> int:
        """What a stream has of an account, with all others that have the same share."""
        together = self._streams if stream.single else [stream]
        return sum(_USED[account](each) for each in together if each.single == stream.single)

    @property
    def all_used(self) -> int:
        return sum(map(self.used, ACCOUNTS))

    def left(self, account: str) -> int:
        return min(self.limits[account] - self.used(account), self._limits.memory - self.all_used)

    def fits(self, account: str, stream: ExpectedStream, nbytes: int) -> bool:
        share = self.share(account, stream) + nbytes
        if account == "keep":
            return nbytes <= self.left(account) and share <= self._limits.keep_bytes
        return share <= self.left(account)

    def may_send(self, stream: ExpectedStream, nbytes: int) -> bool:
        """Whether outputs fit: into the first half; or no larger than what was taken before, and leaving as much."""
        used, limit = self.used("unsent"), self.limits["unsent"]
        first_half = 2 * (used + 2 * nbytes) <= limit
        leaves_as_much = used == 0 or limit - used - 2 * nbytes >= 2 * nbytes
        second_half = nbytes <= max(PROVEN_BYTES, stream.proven) and leaves_as_much
        return self.fits("unsent", stream, 2 * nbytes) and (first_half or second_half)

    def exceeds(self, account: str, stream: ExpectedStream) -> bool:
        """Whether a stream has more of an account than is left in it, whatever the others hold."""
        return self.share(account, stream) > self.limits[account] - self.used(account)


def _charges(stream: ExpectedStream) -> list[ExpectedCharge]:
    """Messages whose input bytes some ticket of a stream still needs."""
    held = [e.charge for e in stream.tickets if e.charge is not None and e.needs_input]
    return [*{id(charge): charge for charge in held}.values()]


def _tickets(stream: ExpectedStream) -> int:
    return TICKET_BYTES * stream.in_flight + EVENT_BYTES * sum(not event.admitted for event in stream.outbox)


def _unsent(stream: ExpectedStream) -> int:
    """Outputs are twice in memory while they are written; before that a fetched one is a kept output."""
    if stream.vanished:
        return 0
    written = sum(event.nbytes for event, _ in stream.taken)
    waiting = sum(e.nbytes for e in stream.tickets if e.infer and not e.handed_off and not stream.ended)
    return 2 * (written + waiting)


_USED: dict[str, Callable[[ExpectedStream], int]] = {
    "queue": lambda stream: sum(charge.nbytes for charge in _charges(stream)),
    "unsent": _unsent,
    "keep": lambda stream: stream.kept_bytes,
    "tickets": _tickets,
    "definitions": lambda stream: 0 if stream.ended else sum(stream.definitions.values()),
}
