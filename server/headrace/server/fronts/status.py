"""The one place where errors become statuses of gRPC calls."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from headrace.server.core.ports import Desk
from headrace.wire.errors import HeadraceError

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Answer:
    """Ends the call with the status of an error raised inside; what is not known becomes INTERNAL with an id."""

    __slots__ = ("_context", "_desk")

    def __init__(self, desk: Desk, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._desk = desk
        self._context = context

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, HeadraceError):
            await abort(self._context, error)
        elif isinstance(error, Exception):
            await abort(self._context, self._desk.incident(error))


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: HeadraceError) -> NoReturn:
    """End a call with the status of an error."""
    await context.abort(_STATUS[error.code], error.message)
    raise error
