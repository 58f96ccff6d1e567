"""Letting the event loop run, without waiting for time to pass."""

from __future__ import annotations

import asyncio


async def turns(count: int = 10) -> None:
    """Let every task that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)
