"""Hello: what a server says about itself when a stream opens. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import seconds_of
from headrace.wire.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Hello:
    """The server's version and limits. `window` counts tickets; `keep_seconds` is infinite if outputs do not expire.

    `queue_bytes`: how many bytes of inputs of a stream may be in flight before `submit` waits; 0 for any number.
    `build` is `compiled` or `pure`: whether the server's Python has been made machine code. `instance` is a name of the
    process that serves the stream, which changes when it is started again.
    """

    version: str
    window: int
    max_message_bytes: int
    keep_bytes: int
    keep_seconds: float
    queue_bytes: int = 0
    build: str = ""
    instance: str = ""


def hello_from(message: pb.Hello) -> Hello:
    """Raises InvalidArgument for a Hello without a window or a message size."""
    if not message.window or not message.max_message_bytes:
        raise InvalidArgument("Hello lacks the window or the largest message")
    return Hello(
        message.version,
        message.window,
        message.max_message_bytes,
        message.keep_bytes,
        seconds_of(message.keep_us),
        message.queue_bytes,
        message.build,
        message.instance,
    )
