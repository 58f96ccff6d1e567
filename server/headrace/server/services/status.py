"""The one place where errors become statuses of gRPC calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from headrace.wire.errors import HeadraceError, Internal

_STATUS = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]
Incident = Callable[[BaseException], Internal]
"""Logs an error that is none of the client's business, and gives what the client is told instead."""


class Answer:
    """Ends the call with the status of an error raised inside; what is not known becomes INTERNAL with an id."""

    __slots__ = ("_context", "_incident")

    def __init__(self, incident: Incident, context: Context) -> None:
        self._incident = incident
        self._context = context

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, grpc.aio.InternalError):
            raise _gone()
        known = error if isinstance(error, HeadraceError) else self._incident(error)
        try:
            await self._context.abort(_STATUS[known.code], known.message)
        except grpc.aio.InternalError:
            raise _gone() from None


def _gone() -> asyncio.CancelledError:
    """What is raised when a call cannot be written to: its client has gone, and gRPC has just not cancelled it yet.

    Any other exception would be in the log with its traceback, for each client that vanishes.
    """
    return asyncio.CancelledError("the client has gone")
