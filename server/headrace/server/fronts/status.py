"""The one place where errors become statuses of gRPC calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc

from headrace.server.core.ports import Desk
from headrace.wire.errors import HeadraceError

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


@asynccontextmanager
async def answer(desk: Desk, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with the status of an error raised inside; what is not known becomes INTERNAL with an id."""
    try:
        yield
    except HeadraceError as error:
        await abort(context, error)
    except Exception as error:
        await abort(context, desk.incident(error))


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: HeadraceError) -> NoReturn:
    """End a call with the status of an error."""
    await context.abort(_STATUS[error.code], error.message)
    raise error
