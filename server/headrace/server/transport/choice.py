"""Which transport a server uses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, TypeAlias

import grpc

from headrace.server.transport.aio.server import AioTransport
from headrace.server.transport.interface import Transport

if TYPE_CHECKING:
    from headrace.server.transport.completion_queue.server import CompletionQueueTransport

TransportName: TypeAlias = Literal["auto", "completion-queue", "aio"]

logger = logging.getLogger(__name__)


class NoTransportError(Exception):
    """The message is one sentence for the operator."""


def choose_transport(name: TransportName, busy_poll: float) -> Transport:
    """The transport of that name. `auto` is the completion queue, or grpc.aio if this grpcio is not suited.

    `busy_poll` is how many seconds its loop polls before it sleeps. Raises NoTransportError.
    """
    if name == "aio":
        logger.info("the transport is grpc.aio")
        return AioTransport(busy_poll)
    found = _completion_queue(busy_poll, tested=name == "auto")
    if not isinstance(found, str):
        logger.info("the transport is the completion queue of grpcio %s", grpc.__version__)
        return found
    if name == "completion-queue":
        raise NoTransportError(f"the completion queue of grpcio {grpc.__version__} cannot be used: {found}")
    logger.warning(
        "the transport is grpc.aio, which is slower: the completion queue of grpcio %s cannot be used: %s",
        grpc.__version__,
        found,
    )
    return AioTransport(busy_poll)


def _completion_queue(busy_poll: float, *, tested: bool) -> CompletionQueueTransport | str:
    """The transport, or why it cannot be used. It has to be tested with this version of grpcio, if that is asked."""
    try:
        # Here, because another version need not have the names.
        from headrace.server.transport.completion_queue.cython_layer import UnsuitableError, is_tested, open_queue
        from headrace.server.transport.completion_queue.server import CompletionQueueTransport
    except (ImportError, AttributeError) as error:
        return str(error)
    if tested and not is_tested():
        return "this version has not been tested; --transport completion-queue uses it all the same"
    try:
        queue, call = open_queue()
    except UnsuitableError as error:
        return str(error)
    return CompletionQueueTransport(queue, call, busy_poll)
