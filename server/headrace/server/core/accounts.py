"""The budget of the process: what it is spent on, and what each stream has of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from headrace.server.core.limits import Limits
from headrace.server.core.quotas import Quota, Share

MAX_CACHE_BYTES = 48 << 20
PACED_PARTS = 5
"""Streams are asked to stay below this part of `queue`, plus one Infer. A share ends where a stream has as much as is
left (`Share`), so up to three of them are paced then, and none is refused."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What a stream has of each account. All unary calls together have those of one stream.

    Of `keep` it is a quota of its own, which the stream was told.
    """

    queue: Share
    unsent: Share
    keep: Quota
    tickets: Share
    definitions: Share


class Accounts:
    """The accounts of the budget `memory`, in bytes.

    `queue`: messages whose inputs wait or run. `unsent`: outputs that are not sent, at twice their size (`COPIES`).
    `keep`: kept outputs. `tickets`: tickets in flight, and events without one. `definitions`: defined calls. `caches`:
    what makes later messages faster, and is dropped for anything else. `sequences`: live sequences with what the
    variables of their models hold.
    """

    def __init__(self, limits: Limits) -> None:
        memory = limits.memory
        self.memory = Quota(memory)
        self.queue = Quota(limits.queue_bytes, self.memory)
        self.unsent = Quota(memory // 2, self.memory)
        self.keep = Quota(min(limits.keep_bytes_total, memory // 2), self.memory)
        self.tickets = Quota(memory // 4, self.memory)
        self.definitions = Quota(memory // 4, self.memory)
        self.caches = Quota(min(memory // 8, MAX_CACHE_BYTES), self.memory)
        self.sequences = Quota(min(limits.sequence_bytes, memory // 2), self.memory)
        self.keep_bytes = min(limits.keep_bytes, self.keep.limit)
        """The quota of a stream for kept outputs."""
        self.queue_bytes = max(1, self.queue.most // PACED_PARTS)
        """The bytes of inputs that a stream is asked to keep below."""
        self._unary = self._shares()

    def shares(self, *, single: bool) -> Shares:
        """The shares of a new stream. `single`: it is one unary call."""
        return self._unary if single else self._shares()

    def by_name(self) -> Sequence[tuple[str, Quota]]:
        """The accounts below `memory`."""
        names = (*(each.name for each in fields(Shares)), "caches", "sequences")
        return [(name, getattr(self, name)) for name in names]

    def _shares(self) -> Shares:
        return Shares(
            queue=_share(self.queue),
            unsent=_share(self.unsent),
            keep=Quota(self.keep_bytes, self.keep),
            tickets=_share(self.tickets),
            definitions=_share(self.definitions),
        )

    def __repr__(self) -> str:
        used = ", ".join(f"{name} {quota.used}" for name, quota in self.by_name())
        return f"<Accounts {self.memory.used} of {self.memory.limit} bytes: {used}>"


def _share(account: Quota) -> Share:
    return Share(account.limit, account)
