"""Fetches: whole, or in pieces if an output is larger than a message."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.aio.awaitable_ticket import AwaitableTicket
from headrace.client.protocol.layouts import TensorSpec
from headrace.client.protocol.slices import SliceLike, Slices, as_slices, compose, pieces, resolve
from headrace.client.transport.stream_transport import StreamTransport
from headrace.wire.errors import ResourceExhausted
from headrace.wire.tensors import sliced_shape

Array = npt.NDArray[Any]

MAX_PIECE_BYTES = 8 << 20
"""The size of a piece: large enough to cost little, small enough to let other messages through."""
MAX_PIECES_IN_FLIGHT = 4
MAX_EVENT_BYTES = 4 << 10
"""The most bytes of a message with one tensor that are not the tensor's."""


async def fetch(transport: StreamTransport, source: AwaitableTicket, name: str, index: SliceLike | None) -> Array:
    """A kept output, or a part of it, in as many messages as it takes."""
    slices = as_slices(index)
    if slices is not None:
        return await _fetch(transport, source, name, slices)
    assert index is not None
    # An index of NumPy depends on the shape, which is known once the source has ended.
    await source.wait_ended()
    spec = source.kept_spec(name)
    if spec is None:
        return await _fetch(transport, source, name, ())  # raises what the server says about it
    slices, dropped = resolve(index, spec.shape)
    array = await _fetch(transport, source, name, slices)
    return array[tuple(0 if axis in dropped else slice(None) for axis in range(array.ndim))] if dropped else array


async def _fetch(transport: StreamTransport, source: AwaitableTicket, name: str, slices: Slices) -> Array:
    max_bytes = transport.protocol.max_message_bytes - MAX_EVENT_BYTES
    if not _is_larger(source.kept_spec(name), slices, max_bytes):
        try:
            return await _whole(transport, source, name, slices)
        except ResourceExhausted as error:
            if error.retryable:
                raise
            # The output may be too large for a message. Its size is known once the source has ended.
            await source.wait_ended()
            if not _is_larger(source.kept_spec(name), slices, max_bytes):
                raise
    spec = source.kept_spec(name)
    assert spec is not None
    return await _in_pieces(transport, source, name, slices, spec, min(max_bytes, MAX_PIECE_BYTES))


def _is_larger(spec: TensorSpec | None, slices: Slices, max_bytes: int) -> bool:
    """Whether the tensor is known to be larger. The size of BYTES is never known."""
    if spec is None or spec.nbytes is None:
        return False
    return math.prod(sliced_shape(spec.shape, slices)) * spec.dtype.itemsize > max_bytes


async def _whole(transport: StreamTransport, source: AwaitableTicket, name: str, slices: Slices) -> Array:
    ticket = AwaitableTicket(transport)
    await transport.fetch(ticket, source, name, slices)
    try:
        (array,) = (await ticket).values()
    finally:
        # Nothing else awaits it. This matters if the fetching task is cancelled.
        transport.cancel(ticket)
    return array


async def _in_pieces(
    transport: StreamTransport,
    source: AwaitableTicket,
    name: str,
    slices: Slices,
    spec: TensorSpec,
    max_bytes: int,
) -> Array:
    shape = sliced_shape(spec.shape, slices)
    whole = np.empty(shape, spec.dtype)
    in_flight: deque[tuple[Slices, AwaitableTicket]] = deque()

    async def take_oldest() -> None:
        piece, ticket = in_flight[0]
        (array,) = (await ticket).values()
        whole[tuple(slice(start, stop) for start, stop in piece)] = array
        in_flight.popleft()

    try:
        for piece in pieces(shape, spec.dtype.itemsize, max_bytes):
            if len(in_flight) >= MAX_PIECES_IN_FLIGHT:
                await take_oldest()
            ticket = AwaitableTicket(transport)
            await transport.fetch(ticket, source, name, compose(slices, piece))
            in_flight.append((piece, ticket))
        while in_flight:
            await take_oldest()
    finally:
        for _, ticket in in_flight:
            transport.cancel(ticket)
    whole.flags.writeable = False
    return whole
