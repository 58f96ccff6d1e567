"""The front over an engine whose runs end when a test says so, and calls that are held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine, Script
from headrace.server.services.oip.inference import InferRpc
from headrace.server.services.oip.requests import Requests
from headrace.server.services.oip.responses import Responses
from headrace.server.services.oip.shared_memory import Regions
from headrace.server.services.oip.streaming import StreamInferRpc
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError

T = TypeVar("T")

VALUES = np.arange(4, dtype=np.float32)
DOUBLED = (2 * VALUES).tobytes()
ROW = len(DOUBLED)


class Aborted(Exception):
    """A call was ended with a status."""


class Call:
    """A `services.call.Call` held in memory. `written` is what the client was sent."""

    end: object = "end"

    def __init__(self, *, metadata: tuple[tuple[str, str], ...] = (), seconds: float | None = None) -> None:
        self.written: list[bytes] = []
        self.stuck = False
        """The client takes nothing more."""
        self._seconds = seconds
        self._metadata = metadata
        self._messages = asyncio.Queue[Any]()

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self._messages.put_nowait(message)

    def half_close(self) -> None:
        self._messages.put_nowait(self.end)

    async def read(self) -> Any:
        return await self._messages.get()

    async def write(self, message: bytes) -> None:
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        self.written.append(message)

    async def has_been_sent(self, count: int) -> None:
        """Wait until `count` messages were sent to the client."""
        await until(lambda: len(self.written) >= count)

    def time_remaining(self) -> float | None:
        return self._seconds

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._metadata

    def peer(self) -> str:
        return "memory"

    @property
    def errors(self) -> list[str]:
        """What each message of a stream says of an error; nothing for an answer."""
        return [pb.ModelStreamInferResponse.FromString(each).error_message for each in self.written]


class Front:
    """`double` is x: f32[?] -> y: f32[?], 2x, and z: f32[?], 3x; in one slot, and a run ends when a test says so."""

    def __init__(self, regions: Regions | None, limits: Limits | None = None) -> None:
        any_size = (Dimension(0, -1),)
        outputs = tuple(Port(index, (name,), Datatype.FP32, any_size) for index, name in enumerate("yz"))
        spec = ModelSpec("double", "1", (Port(0, ("x",), Datatype.FP32, any_size),), outputs, False, 1)
        self.engine = FakeEngine()
        self.engine.add(spec, lambda inputs: {"y": 2 * inputs["x"], "z": 3 * inputs["x"]}, Script(held=True))
        self.core = Core(limits or Limits())
        self.core.models.add(spec)
        self.dispatcher = Dispatcher(self.core, self.engine)
        requests, responses = Requests(regions, self.core.queue), Responses()
        self._infer = InferRpc(self.dispatcher, requests, responses)
        self._stream = StreamInferRpc(self.dispatcher, requests, responses)

    def infer(self, message: bytes, call: Call) -> asyncio.Task[bytes]:
        return asyncio.create_task(self._answer(self._infer.infer(message, call)))

    def stream(self, call: Call) -> asyncio.Task[None]:
        return asyncio.create_task(self._answer(self._stream.stream(call)))

    async def _answer(self, handler: Coroutine[Any, Any, T]) -> T:
        """The transport turns errors into statuses."""
        try:
            return await handler
        except HeadraceError as error:
            raise Aborted(error.code.name, error.message) from None

    async def runs(self) -> None:
        """Wait until something does."""
        await until(lambda: bool(self.engine.running))

    async def has_in_flight(self, count: int) -> None:
        """Wait until `count` tickets are in flight."""
        await until(lambda: sum(stream.in_flight for stream in self.core.streams) == count)

    def finish(self) -> None:
        """The oldest run completes."""
        self.engine.finish(self.engine.running[0])


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop turn until a condition holds."""
    turns = asyncio.Event()
    while not holds():
        turns.clear()
        asyncio.get_running_loop().call_soon(turns.set)
        await turns.wait()


def message(*places: tuple[str, str, int, int], model: str = "double", name: str = "", **parameters: int) -> bytes:
    """A request whose outputs go to these places: the output, the region, the offset and the bytes of each."""
    request = pb.ModelInferRequest(model_name=model, id=name, raw_input_contents=[VALUES.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=VALUES.shape)
    for key, value in parameters.items():
        request.parameters[key].int64_param = value
    for output, region, offset, nbytes in places:
        asked = request.outputs.add(name=output).parameters
        asked["shared_memory_region"].string_param = region
        asked["shared_memory_offset"].int64_param = offset
        asked["shared_memory_byte_size"].int64_param = nbytes
    return request.SerializeToString()
