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
        window, connection, network, _ = waits
        begun, processor, old = self._begun, self._processor, self._waits
        own = now - (due if due > begun else begun) - window - connection - network
        machine = own - used if own > used else 0.0
        passed, before = due - self._due, 0.0 if old is NO_WAITS else sum(old)
        if passed >= processor + before:
            processor = 0.0  # it has caught up
        else:
            remains = processor + before - passed
            processor = max(processor - passed, 0.0)
            if before:
                left = (remains - processor) / before
                window, connection = window + left * old.window, connection + left * old.connection
                network, machine = network + left * old.network, machine + left * old.machine
        if own > 0.0:
            processor += min(own, used)
        waited = window or connection or network or machine
        self._due, self._begun, self._processor = due, now, processor
        self._waits = Waits(window, connection, network, machine) if waited else NO_WAITS
        return self._waits

    def __repr__(self) -> str:
        return f"<Lag: processor {self._processor:.4f}, {self._waits}>"
