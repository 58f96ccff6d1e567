"""A unary call is a stream with a window of one."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.core.events import Done, Failed
from headrace.server.core.state import Stream
from headrace.server.services.api import Desk
from headrace.wire.errors import Unavailable

ANY_SIZE = (1 << 31) - 1
"""What a client takes is not known here: its own limit decides."""


async def single(desk: Desk, submit: Callable[[Stream], None]) -> Done:
    """The result of the one ticket that `submit` has a stream admit. Raises what it fails with."""
    core = desk.core
    stream = core.open_stream(unary=True)
    try:
        core.open(stream, ordered=False, max_message_bytes=ANY_SIZE)
        submit(stream)
        desk.act()
        while not (events := stream.take()):
            if not await desk.changed(stream):
                raise Unavailable("the server has stopped")
    finally:
        desk.leave(stream)
    (event,) = events
    if isinstance(event, Failed):
        raise event.error
    assert isinstance(event, Done)
    return event
