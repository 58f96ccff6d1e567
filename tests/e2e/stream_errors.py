"""What tickets and streams end with when their server goes."""

from __future__ import annotations

import numpy as np

import headrace.client as hc

ONE = np.ones(1, np.float32)


async def outcome(ticket: hc.Ticket) -> hc.HeadraceError | None:
    """What a ticket fails with, if it does."""
    try:
        await ticket
    except hc.HeadraceError as error:
        return error
    return None


async def refusal(stream: hc.Stream) -> hc.Unavailable:
    """What a stream says that takes nothing more. It may not have heard of its end yet."""
    while True:
        try:
            await (await stream.submit("scale", {"x": ONE}))
        except hc.Unavailable as error:
            return error
