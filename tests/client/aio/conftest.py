"""Every test here runs on both kinds of event loops: asyncio's own, and the one that polls gRPC itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.client.transport.event_loops import queue_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "polling": _polling_loop}


def _polling_loop() -> asyncio.AbstractEventLoop:
    loop = queue_loop()
    assert loop is not None, "the grpcio that is installed is not suited"
    return loop
