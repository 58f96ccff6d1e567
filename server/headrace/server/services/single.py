"""A unary call is a stream with a window of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from headrace.server.core.events import Done, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Commands, Streams
from headrace.wire.errors import Unavailable

ANY_SIZE = (1 << 31) - 1
"""The client's own limit is not known here, and decides."""

P = ParamSpec("P")


async def single(
    streams: Streams, tell: Callable[Concatenate[Commands, Stream, float, P], None], *args: P.args, **kwargs: P.kwargs
) -> Done:
    """The result of the one Infer that `tell` submits (see `StreamHandle.submit`). Raises what it fails with."""
    handle = streams.open(unary=True)
    try:
        handle.submit(tell, *args, **kwargs)
        while not (events := handle.take()):
            if not await handle.changed():
                raise Unavailable("the server has stopped")
    finally:
        handle.close()
    (event,) = events
    if isinstance(event, Failed):
        raise event.error
    assert isinstance(event, Done)
    return event
