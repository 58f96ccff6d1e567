"""The fallback, by what Ray documents: a replica's methods get a call from Ray's proxy, and the server answers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default

from headrace.server.composition import SERVICES
from headrace.server.hosted import Hosted
from headrace.server.services.health import HEALTH
from headrace.server.transport.aio.bridging import BridgedContext, add_as_bytes
from headrace.server.transport.aio.handlers import CallLife, serving
from headrace.server.transport.message_turns import MessageTurns


def methods() -> Sequence[MethodDescriptor]:
    """The RPCs that Ray gets to know. It has reflection of its own."""
    return [method for name in (*SERVICES, HEALTH) for method in Default().FindServiceByName(name).methods]


def add_services(_servicer: object, server: Any) -> None:
    """For `grpc_servicer_functions`."""
    add_as_bytes(methods(), server)


@dataclass(frozen=True, slots=True)
class Message:
    """What Ray takes for a message."""

    data: bytes

    def SerializeToString(self) -> bytes:
        return self.data


class Bridge:
    """Answers calls of Ray's proxy with a server."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted
        life = CallLife(hosted.entrance, hosted.application.status_of, hosted.receiving, MessageTurns())
        rpcs = {f"{each.name}/{name}": rpc for each in hosted.application.services for name, rpc in each.rpcs.items()}
        self._serve = {name: serving(rpc, name, life) for name, rpc in rpcs.items()}

    async def answers(self, path: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Message]:
        """The responses to a call. Raises when it ends with an error, which Ray takes from `context`."""
        bridged = BridgedContext(requests, context)
        running = asyncio.ensure_future(self._run(path, bridged))
        try:
            while (message := await bridged.responses.get()) is not None:
                yield Message(message)
                bridged.responses.task_done()
            await running
        finally:
            running.cancel()

    async def _run(self, path: str, bridged: Any) -> None:
        try:
            response = await asyncio.wrap_future(self._hosted.call(self._serve[path](None, bridged)))
            if response is not None:
                bridged.responses.put_nowait(response)
        except asyncio.CancelledError:
            if bridged.error is None:
                raise
            raise RuntimeError(bridged.error) from None
        finally:
            bridged.responses.put_nowait(None)
