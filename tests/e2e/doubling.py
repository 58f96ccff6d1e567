"""Chains of the model `scale` that stay on the server, and whose results are known."""

from __future__ import annotations

import headrace.client as hc

LINKS = 20
"""Of a chain: as many as float32 has exact numbers for."""


async def chain(stream: hc.Stream) -> float:
    """The last of numbers each of which is the one before, doubled, and 1 more. They stay on the server."""
    ticket = await stream.submit("scale", {"x": hc.zeros(1)}, outputs=[], keep=["y"])
    for _ in range(LINKS - 2):
        ticket = await stream.submit("scale", {"x": ticket.take("y")}, outputs=[], keep=["y"])
    return float((await (await stream.submit("scale", {"x": ticket.take("y")})))["y"][0])
