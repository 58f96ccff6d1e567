"""Ids of incidents: unexpected errors, whose details only the log has."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from headrace.server.telemetry.kinds import ErrorKind, error_kind

PERIOD_SECONDS = 60.0
MAX_IDS = 50
"""Ids for incidents of one kind in a period. It is less than the lines that the log shows of one kind."""


class IncidentIds:
    """Gives incidents their ids. In each period, further incidents of a kind share the id of the last one that got one.

    So the log, which does not show all incidents of a kind either, has something under every id that a client is told.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends = now()
        self._ids: dict[ErrorKind, list[str]] = {}
        """The ids of this period."""

    def __call__(self, error: BaseException) -> str:
        now = self._now()
        if now >= self._ends:
            self._ids.clear()
            self._ends = now + PERIOD_SECONDS
        ids = self._ids.setdefault(error_kind(error), [])
        if len(ids) < MAX_IDS:
            ids.append(uuid.uuid4().hex[:12])
        return ids[-1]

    def __repr__(self) -> str:
        return f"<IncidentIds: {len(self._ids)} kinds in this period>"
