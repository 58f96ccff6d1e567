"""Calls that another gRPC server of this process has accepted, on another event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor

T = TypeVar("T")


class OtherContext(Protocol):
    """What is known of a call on the other loop, and what it ends with."""

    def peer(self) -> str: ...
    def invocation_metadata(self) -> Any: ...
    def set_code(self, code: grpc.StatusCode) -> None: ...
    def set_details(self, details: str) -> None: ...


class BridgedContext:
    """What `handlers` uses of a context of grpc.aio. To be made on the loop of the call; `handlers` are on another."""

    def __init__(self, requests: AsyncIterator[bytes], other: OtherContext) -> None:
        self._requests = requests
        self._other = other
        self._loop = asyncio.get_running_loop()
        self.peer = other.peer
        self.invocation_metadata = other.invocation_metadata
        self.responses: asyncio.Queue[bytes | None] = asyncio.Queue()
        """Messages to send; the next is written after `task_done`. None is the end."""
        self.error: str | None = None
        """The message of the status that the call is to end with, which the other context has."""

    def time_remaining(self) -> None:
        """The other server minds the deadline."""

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def read(self) -> Any:
        return await self._there(self._next())

    async def write(self, message: bytes) -> None:
        await self._there(self._put(message))

    async def abort(self, code: grpc.StatusCode, details: str, _metadata: object) -> None:
        """The caller raises CancelledError after it."""
        self._other.set_code(code)
        self._other.set_details(details)
        self.error = details

    async def _next(self) -> Any:
        return await anext(self._requests, grpc.aio.EOF)

    async def _put(self, message: bytes) -> None:
        self.responses.put_nowait(message)
        await self.responses.join()

    async def _there(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))


def add_as_bytes(methods: Iterable[MethodDescriptor], server: Any) -> None:
    """Let a server know RPCs whose messages it is to pass on as bytes."""
    handlers: dict[str, dict[str, Any]] = {}
    for method in methods:
        sides = ("stream" if each else "unary" for each in (method.client_streaming, method.server_streaming))
        handler = getattr(grpc, "_".join(sides) + "_rpc_method_handler")(None)
        handlers.setdefault(method.containing_service.full_name, {})[method.name] = handler
    for name, of_service in handlers.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, of_service),))
