"""Waiting for what a handle tells its service."""

from __future__ import annotations

import asyncio

from headrace.server.dispatcher.handle import StreamHandle


async def wait_for_events(handle: StreamHandle) -> bool:
    """Wait until there are events, which another task may take first. Returns False when the stream has ended."""
    if not handle.has_events and not handle.ended:
        news = asyncio.Event()
        handle.on_news = news.set
        await news.wait()
        handle.on_news = None
    return not handle.ended


async def wait_until_readable(handle: StreamHandle) -> None:
    while not handle.may_read and not handle.ended:
        readable = asyncio.Event()
        handle.on_readable = readable.set
        await readable.wait()
