"""What a server holds, as its status says."""

from __future__ import annotations

import headrace.client as hc


async def until_nothing_is_held(server: hc.Server) -> None:
    """Wait until nothing is held: every slot free, nothing kept, queued or in flight but our own stream."""
    while True:
        status = await server.status()
        held = status.kept_bytes, status.queued_bytes, status.tickets_in_flight
        if held == (0, 0, 0) and all(not model.slots_running + model.slots_stopping for model in status.models):
            return
