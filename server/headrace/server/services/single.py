"""A single inference: a stream with a window of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from headrace.server.core.events import Done, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.server.services.call import Call
from headrace.wire.errors import Unavailable

UNLIMITED_BYTES = (1 << 31) - 1
"""The largest message for clients whose own limit is unknown: gRPC enforces that limit at the client."""

P = ParamSpec("P")


async def run_single(
    streams: Streams,
    call: Call,
    apply: Callable[Concatenate[Commands, Stream, float, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Done:
    """Run the one Infer that `apply` submits (see `StreamHandle.submit`). Raises the error that it fails with."""
    handle = streams.open(call.peer(), unary=True)
    try:
        handle.submit(apply, *args, **kwargs)
        while not (events := handle.take()):
            if not await handle.wait_for_events():
                raise Unavailable("the server has stopped")
    finally:
        handle.close()
    (event,) = events
    if isinstance(event, Failed):
        raise event.error
    assert isinstance(event, Done)
    return event
