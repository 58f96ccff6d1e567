"""Why a sender is behind its plan. Pure."""

from __future__ import annotations

import math

from headrace.client.load.record.samples import Waits


class Lag:
    """How far a sender that takes requests in turn is behind their due times, by cause.

    A request that waits also delays those behind it, however soon they find room themselves. So the sender's lag has
    parts: the processor's part is how late the sender would be if it never had to wait for room or a connection, and
    the rest is shared by those two as they have caused it. As due times pass by, each part is worked off.
    """

    def __init__(self) -> None:
        self._due = self._begun = -math.inf
        self._processor = self._window = self._connection = 0.0

    def begin(self, due: float, now: float, window: float, connection: float) -> Waits:
        """The request that is due at `due` begins now. Returns what it has waited for, itself or behind others.

        `window`, `connection`: seconds that it waited itself, after it was due and the request before it had begun.
        """
        passed = due - self._due
        before = self._window + self._connection
        caught_up = max(self._processor + before - passed, 0.0) - max(self._processor - passed, 0.0)
        left = caught_up / before if before else 0.0
        own = now - max(due, self._begun) - window - connection
        self._processor = max(self._processor - passed, 0.0) + max(own, 0.0)
        self._window = left * self._window + window
        self._connection = left * self._connection + connection
        self._due, self._begun = due, now
        return Waits(self._window, self._connection)

    def __repr__(self) -> str:
        parts = f"processor {self._processor:.4f}, window {self._window:.4f}, connection {self._connection:.4f}"
        return f"<Lag: {parts}>"
