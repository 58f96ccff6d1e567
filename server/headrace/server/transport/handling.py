"""How a call goes from its arrival to the end of its handler, whichever transport carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from headrace.server.services.call import LARGE_REQUEST, Bidirectional, Call, ServerStreaming, Unary
from headrace.server.transport.entrance import ArrivingCall, Door
from headrace.server.transport.receiving import Receiving, ReceivingCall
from headrace.wire.errors import InvalidArgument

NO_REQUEST = "the call ended without a request message"
NO_MEMORY = "the server has too little memory left for this request"


class EndableCall(Call, ReceivingCall, ArrivingCall, Protocol):
    """A call that a transport gives to a handler, and that may be ended while the handler reads."""


async def handle(
    rpc: Unary | ServerStreaming | Bidirectional, door: Door, call: EndableCall, receiving: Receiving
) -> Any:
    """Run the handler of a call, through its door and its gate. Returns the response of a unary RPC.

    Raises what the handler raises, and what the call was ended with.
    """
    handler: Callable[..., Any] = rpc.handler
    gate = rpc.gate
    door.admit(call)
    receiving.add(call)
    door.opened(call)
    try:
        if isinstance(rpc, Bidirectional):
            with gate:
                return await handler(call)
        # A call that is refused need not send its message, and one that never sends it takes no place.
        gate.check()
        message = await call.read()
        if message is call.end:
            raise InvalidArgument(NO_REQUEST)
        with gate:
            if len(message) >= LARGE_REQUEST and (turn := call.turn()) is not None:
                await turn
            receiving.remove(call)
            if isinstance(rpc, Unary):
                door.closed(call)
            return await handler(message, call)
    except asyncio.CancelledError:
        if call.error is None:
            raise
        raise call.error from None
    finally:
        receiving.remove(call, None)
        door.closed(call)
