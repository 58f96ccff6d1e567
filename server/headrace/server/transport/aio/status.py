"""The one place where errors become statuses of calls of grpc.aio."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, TypeAlias

import grpc

from headrace.server.services.call import Call
from headrace.server.transport.interface import StatusOf
from headrace.server.transport.options import trailing_metadata
from headrace.wire.errors import forget_frames

_STATUS = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


async def finish(context: Context, error: Exception, status_of: StatusOf, call: Call, rpc: str) -> NoReturn:
    """Finish a call with the status of an error; an unexpected one becomes INTERNAL with an id."""
    if not isinstance(error, grpc.aio.InternalError):
        known = status_of(error, call, rpc)
        forget_frames(error)
        try:
            await context.abort(_STATUS[known.code], known.message, trailing_metadata(known))
        except grpc.aio.AbortError as aborted:
            forget_frames(aborted)  # the context keeps it, and these frames have the context
        except grpc.aio.InternalError:
            pass
    # Else the call cannot be written to: its client has gone, and gRPC has not cancelled the handler yet. With any
    # other exception gRPC would log a traceback for every client that vanishes.
    raise asyncio.CancelledError("the call has ended")
