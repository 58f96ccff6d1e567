"""A wait for room in the windows of the callers, and what it was for."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.callers.caller import Caller
from headrace.client.load.record.samples import Waits
from headrace.client.load.sending.pacer import Pacer

IDLE_SHARE = 0.1
"""A client that is idle for less than this share of a wait may have its room in answers that it has not yet read ..."""
USED_SHARE = 0.9
"""... and so may one that uses a processor for more than this share, in its event loop or in the threads of gRPC."""
CALLERS_WATCHED = 16
"""Of many callers, only the first ones are asked about their connections."""


class RoomWait:
    """Begins when it is created."""

    def __init__(self, pacer: Pacer, callers: Sequence[Caller]) -> None:
        self._pacer = pacer
        self._callers = callers[:CALLERS_WATCHED]
        self._begun, self._idle, self._outages = pacer.now(), pacer.idle(), self._outage_seconds()
        self.used_before = pacer.used_since_mark()
        """The seconds of a processor that were used before it began, since the mark of the pacer."""

    def waits(self) -> Waits | None:
        """For the window, and for a connection as far as the requests in the window waited for one, up to now.

        None if this client was too busy to tell.
        """
        waited = self._pacer.now() - self._begun
        used = self._pacer.used_since_mark() - self.used_before
        if self._pacer.idle() - self._idle < IDLE_SHARE * waited or used > USED_SHARE * waited:
            return None
        connection = min((self._outage_seconds() - self._outages) / len(self._callers), waited)
        return Waits(window=waited - connection, connection=connection)

    def _outage_seconds(self) -> float:
        return sum(caller.outage_seconds for caller in self._callers)
