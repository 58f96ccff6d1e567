"""The one place where errors become statuses of calls of grpc.aio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

import grpc

from headrace.server.services.call import Call
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.options import trailing_metadata

_STATUS = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


async def finish(context: Context, error: Exception, status_of: StatusOf, call: Call, rpc: str) -> NoReturn:
    """Finish a call with the status of an error; an unexpected one becomes INTERNAL with an id."""
    if not isinstance(error, grpc.aio.InternalError):
        known = status_of(error, call, rpc)
        with suppress(grpc.aio.InternalError):
            await context.abort(_STATUS[known.code], known.message, trailing_metadata(known))
    # The call cannot be written to: its client has gone, and gRPC has not cancelled the handler yet. With any other
    # exception gRPC would log a traceback for every client that vanishes.
    raise asyncio.CancelledError("the client has gone")
