"""A single caller, and calls on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from headrace.client.load.callers.caller import Answer, Caller, Request
from headrace.client.load.callers.connect import connect_callers
from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.run import Mode, Protocol
from headrace.client.protocol.connection_settings import ConnectionSettings

INPUTS = {"x": np.arange(32, dtype=np.float32).reshape(2, 16)}
ECHO = Request("echo", "")


@asynccontextmanager
async def single_caller(
    target: str, protocol: Protocol, mode: Mode, request: Request = ECHO, window: int = 8
) -> AsyncIterator[Caller]:
    async with connect_callers(ConnectionSettings(target=target), protocol, mode, 1, window, request) as (caller,):
        yield caller


async def answers(caller: Caller, count: int) -> Sequence[Answer]:
    """The answers to `count` simultaneous calls."""
    return await asyncio.gather(*(caller.call(INPUTS, Departure()) for _ in range(count)))
