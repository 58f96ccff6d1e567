"""Why a sender is behind its plan. Pure."""

from __future__ import annotations

import math

from headrace.client.load.record.samples import NO_WAITS, Waits


class Lag:
    """How far a sender that takes requests in turn is behind their due times, by cause.

    A request that waits also delays those behind it, however soon they find room themselves. So the sender's lag has
    parts: the processor's part is how late the sender would be if it never had to wait for anything, and the rest is
    shared by what it waited for as that has caused it. As due times pass by, each part is worked off.
    """

    def __init__(self) -> None:
        self._due = self._begun = -math.inf
        self._processor = 0.0
        self._waits = NO_WAITS

    def begin(self, due: float, now: float, waits: Waits, used: float) -> Waits:
        """The request that is due at `due` begins now. Returns what it has waited for, itself or behind others.

        `waits`: what it waited for itself, after it was due and the request before it had begun. `used`: the seconds
        of a processor that this process used in the rest of that time; what it did not use, it waited for one.
        """
        passed, own = due - self._due, max(now - max(due, self._begun) - sum(waits), 0.0)
        waits = waits._replace(machine=max(own - used, 0.0))
        before = sum(self._waits)
        caught_up = max(self._processor + before - passed, 0.0) - max(self._processor - passed, 0.0)
        earlier = _scaled(self._waits, caught_up / before if before else 0.0)
        self._processor = max(self._processor - passed, 0.0) + own - waits.machine
        self._waits = Waits(*(one + other for one, other in zip(earlier, waits, strict=True)))
        self._due, self._begun = due, now
        return self._waits

    def __repr__(self) -> str:
        return f"<Lag: processor {self._processor:.4f}, {self._waits}>"


def _scaled(waits: Waits, factor: float) -> Waits:
    return Waits(*(factor * seconds for seconds in waits))
