"""Event loops on which the client is faster: they poll gRPC themselves."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

if TYPE_CHECKING:
    from headrace.client.transport.completion_queue.loop import QueueLoop

T = TypeVar("T")

VARIABLE = "HEADRACE_CLIENT_TRANSPORT"
"""Of the environment: `aio` has all calls made by grpc.aio. Without it, grpcio decides by its version."""

logger = logging.getLogger(__name__)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop on which a client with a single address costs less: it polls gRPC itself.

    It is asyncio's own in everything else, and altogether, if the grpcio that is installed is not suited; a warning in
    the log says so. One connection at a time is made like this, the first that is used and not closed. Others are made
    as on any other loop. For `asyncio.Runner(loop_factory=new_event_loop)`.
    """
    loop = queue_loop()
    return asyncio.new_event_loop() if loop is None else loop


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """`asyncio.run`, on a loop of `new_event_loop`."""
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def queue_loop() -> QueueLoop | None:
    """A loop that polls gRPC itself, or None if that is not possible, or not wanted."""
    if os.environ.get(VARIABLE) == "aio" or not _has_names():
        return None
    from headrace.client.transport.completion_queue.loop import QueueLoop

    return QueueLoop(_is_suited)


@cache
def _has_names() -> bool:
    """Whether the grpcio that is installed has what is needed, and has been tested."""
    try:
        # Here, because another version need not have the names.
        from headrace.client.transport.completion_queue.cython_layer import is_tested
    except (ImportError, AttributeError) as error:
        return _refused(str(error))
    return is_tested() or _refused("this version has not been tested")


@cache
def _is_suited() -> bool:
    """Whether it also works as it has to."""
    from headrace.client.transport.completion_queue.cython_layer import UnsuitableError, check

    try:
        check()
    except UnsuitableError as error:
        return _refused(str(error))
    return True


def _refused(why: str) -> bool:
    logger.warning(
        "calls are made by grpc.aio, which is slower: the completion queue of grpcio %s cannot be used: %s",
        grpc.__version__,
        why,
    )
    return False
