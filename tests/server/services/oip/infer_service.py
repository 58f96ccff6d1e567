"""The inference RPCs over an engine whose runs end when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine, Script
from headrace.server.services.oip.inference import InferRpc
from headrace.server.services.oip.region_registry import OwnedRegions
from headrace.server.services.oip.requests import RequestReader
from headrace.server.services.oip.responses import ResponseWriter
from headrace.server.services.oip.streaming import StreamInferRpc
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError
from tests.server.services.oip.calls import InMemoryCall, until

T = TypeVar("T")


class Aborted(Exception):
    """A call has ended with an error status: its code and message."""


class InferService:
    """Serves `double`, which has one slot: x: f32[?] -> y: f32[?], which is 2x, and z: f32[?], which is 3x."""

    def __init__(self, regions: OwnedRegions | None, limits: Limits | None = None) -> None:
        any_size = (Dimension(0, -1),)
        outputs = tuple(Port(index, (name,), Datatype.FP32, any_size) for index, name in enumerate("yz"))
        spec = ModelSpec("double", "1", (Port(0, ("x",), Datatype.FP32, any_size),), outputs, False, 1)
        self.engine = FakeEngine()
        self.engine.add(spec, lambda inputs: {"y": 2 * inputs["x"], "z": 3 * inputs["x"]}, Script(held=True))
        self.core = Core(limits or Limits())
        self.core.models.add(spec)
        self.dispatcher = Dispatcher(self.core, self.engine)
        reader, writer = RequestReader(regions, self.core), ResponseWriter(self.core.accounts.caches)
        self._infer = InferRpc(self.dispatcher, reader, writer)
        self._stream = StreamInferRpc(self.dispatcher, reader, writer)

    def infer(self, message: bytes, call: InMemoryCall) -> asyncio.Task[bytes]:
        return asyncio.create_task(self._serve(self._answer(message, call)))

    def stream(self, call: InMemoryCall) -> asyncio.Task[None]:
        return asyncio.create_task(self._serve(self._stream.stream(call)))

    async def _answer(self, message: bytes, call: InMemoryCall) -> bytes:
        self._infer.infer(message, call)
        try:
            return await call.response
        except asyncio.CancelledError:
            if call.on_end is not None:
                call.on_end()
            raise

    async def _serve(self, handler: Coroutine[Any, Any, T]) -> T:
        """Turn an error into a status, as the transport does."""
        try:
            return await handler
        except HeadraceError as error:
            raise Aborted(error.code.name, error.message) from None

    async def wait_running(self) -> None:
        """Wait until a run is in progress."""
        await until(lambda: bool(self.engine.running))

    async def wait_in_flight(self, count: int) -> None:
        """Wait until `count` tickets are in flight."""
        await until(lambda: sum(stream.in_flight for stream in self.core.streams) == count)

    def finish(self) -> None:
        """Complete the oldest run."""
        self.engine.finish(self.engine.running[0])
