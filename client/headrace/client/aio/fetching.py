"""Fetches: whole, or in slices when an output is larger than a message."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.layouts import TensorSpec
from headrace.client.protocol.slices import Slices, cut, within
from headrace.wire.errors import ResourceExhausted
from headrace.wire.tensors import sliced_shape

if TYPE_CHECKING:
    from headrace.client.aio.ticket import Ticket
    from headrace.client.transport.stream_transport import StreamTransport

PIECE_BYTES = 8 << 20
"""Of what is fetched in pieces: large enough to cost little, small enough to let others through."""
PIECES = 4
"""In flight at once."""
EVENT_BYTES = 4 << 10
"""Of a message that brings a tensor: what is not its bytes, at most."""


async def fetch(exchange: StreamTransport, source: Ticket, name: str, slices: Slices) -> npt.NDArray[Any]:
    """A kept output or a part of it, in as many messages as it takes."""
    most_bytes = exchange.state.max_message_bytes - EVENT_BYTES
    if not _over(source.kept_spec(name), slices, most_bytes):
        try:
            return await _whole(exchange, source, name, slices)
        except ResourceExhausted as error:
            if error.retryable:
                raise
            # It may have been too large for a message. How large is known as soon as the source's
            # own end is here.
            await source.settled()
            if not _over(source.kept_spec(name), slices, most_bytes):
                raise
    spec = source.kept_spec(name)
    assert spec is not None
    return await _in_pieces(exchange, source, name, slices, spec, min(most_bytes, PIECE_BYTES))


def _over(spec: TensorSpec | None, slices: Slices, most_bytes: int) -> bool:
    """Whether it is known that a tensor does not fit. Of BYTES it never is."""
    if spec is None or spec.nbytes is None:
        return False
    return math.prod(sliced_shape(spec.shape, slices)) * spec.dtype.itemsize > most_bytes


async def _whole(exchange: StreamTransport, source: Ticket, name: str, slices: Slices) -> npt.NDArray[Any]:
    ticket = await exchange.fetch(source, name, slices)
    try:
        (array,) = (await ticket).values()
    finally:
        # Nobody else can want it: this matters when the task that fetches is cancelled.
        ticket.cancel()
    return array


async def _in_pieces(
    exchange: StreamTransport,
    source: Ticket,
    name: str,
    slices: Slices,
    spec: TensorSpec,
    most_bytes: int,
) -> npt.NDArray[Any]:
    shape = sliced_shape(spec.shape, slices)
    whole = np.empty(shape, spec.dtype)
    pieces: deque[tuple[Slices, Ticket]] = deque()

    async def take_oldest() -> None:
        piece, ticket = pieces[0]
        (array,) = (await ticket).values()
        whole[tuple(slice(start, stop) for start, stop in piece)] = array
        pieces.popleft()

    try:
        for piece in cut(shape, spec.dtype.itemsize, most_bytes):
            if len(pieces) >= PIECES:
                await take_oldest()
            ticket = await exchange.fetch(source, name, within(slices, piece))
            pieces.append((piece, ticket))
        while pieces:
            await take_oldest()
    finally:
        for _, ticket in pieces:
            ticket.cancel()
    whole.flags.writeable = False
    return whole
