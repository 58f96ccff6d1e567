"""The ends of gRPC calls as errors of this library."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from headrace.client.transport.channel import SERVICE
from headrace.wire.errors import HeadraceError, Unavailable, Unimplemented, rebuild

_LOST = ("RST_STREAM", "Internal error from Core")
"""Signs of a lost connection in the details of INTERNAL: from behind a proxy, and when a write is the first to fail."""


RETRY_KEY = "grpc-retry-pushback-ms"
"""Metadata at the end of a call."""
_VANISHED = ("Stream removed", "Socket closed", "Connection reset", "Broken pipe", "recvmsg", "sendmsg", _LOST[1])
"""Signs in the details that the other side has gone without a status, as when its process has died."""


def has_vanished(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call ended because the connection did, and no server or proxy has said anything about it."""
    code = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    return code and any(sign in (error.details() or "") for sign in _VANISHED)


def status_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """The status code and details of a call. INTERNAL becomes UNAVAILABLE if it stands for a lost connection."""
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.INTERNAL and any(sign in details for sign in _LOST):
        return grpc.StatusCode.UNAVAILABLE, f"the connection was lost ({details})"
    return code, details


def error_of(error: grpc.aio.AioRpcError, target: str) -> HeadraceError:
    """The error for a status. Every status that may stand for a lost connection becomes Unavailable."""
    code, details = status_of(error)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable(f"{target}: {details}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unimplemented(f"{target} does not serve {SERVICE}: {details}")
    # A status does not tell whether a retry may succeed. It may, unless gRPC itself found a message too large.
    retryable = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in details
    number: int = code.value[0]
    return rebuild(number, details, retryable, _retry_after(error) if retryable else None)


def _retry_after(error: grpc.aio.AioRpcError) -> float | None:
    """In how many seconds the server says that the call may be made again, if it does."""
    for key, value in error.trailing_metadata() or ():
        if key == RETRY_KEY and str(value).isdecimal():
            return int(value) * 1e-3
    return None


def cancelled_from_outside() -> bool:
    """Whether the current task is being cancelled. CancelledError alone does not tell: a closed call raises it too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
