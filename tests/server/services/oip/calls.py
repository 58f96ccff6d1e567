"""Calls in memory, and the requests that tests send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from headrace.oip import open_inference_pb2 as pb

VALUES = np.arange(4, dtype=np.float32)
DOUBLED = (2 * VALUES).tobytes()
ROW_BYTES = len(DOUBLED)


class InMemoryCall:
    """A `services.call.AnswerableCall` without a transport. `written` has the messages that the client was sent."""

    end: object = "end"
    client: Hashable = "a connection"

    def __init__(self, *, metadata: tuple[tuple[str, str], ...] = (), seconds: float | None = None) -> None:
        self.written: list[bytes] = []
        self.more: list[bool] = []
        """For each of them, whether the transport was told that another one follows."""
        self.stuck = False
        """Whether the client has stopped reading."""
        self.response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[], None] | None = None
        self.reported = False
        self._seconds = seconds
        self._metadata = metadata
        self._messages = asyncio.Queue[Any]()
        self._work: list[asyncio.Task[None]] = []

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

    def read_then(self, callback: Callable[[bytes | None], None]) -> None:
        async def read() -> None:
            message = await self.read()
            callback(None if message is self.end else message)

        self._work.append(asyncio.create_task(read()))

    def write_then(self, message: bytes, callback: Callable[[bool], None], *, more: bool = False) -> None:
        self.more.append(more)

        async def write() -> None:
            await self.write(message)
            callback(True)

        self._work.append(asyncio.create_task(write()))

    def respond(self, response: bytes) -> None:
        if not self.response.done():
            self.response.set_result(response)

    def fail(self, error: Exception) -> None:
        if not self.response.done():
            self.response.set_exception(error)

    def turn(self) -> None:
        """Nothing to wait for: it is the only call."""

    async def wait_written(self, count: int) -> None:
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
        """The error message of each response of a stream; empty for a result."""
        return [pb.ModelStreamInferResponse.FromString(each).error_message for each in self.written]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until the condition holds."""
    turn = asyncio.Event()
    while not condition():
        turn.clear()
        asyncio.get_running_loop().call_soon(turn.set)
        await turn.wait()


def request(*ranges: tuple[str, str, int, int], model: str = "double", name: str = "", **parameters: int) -> bytes:
    """A request whose outputs go to shared memory: the output, region, offset and size in bytes of each."""
    message = pb.ModelInferRequest(model_name=model, id=name, raw_input_contents=[VALUES.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=VALUES.shape)
    for key, value in parameters.items():
        message.parameters[key].int64_param = value
    for output, region, offset, nbytes in ranges:
        options = message.outputs.add(name=output).parameters
        options["shared_memory_region"].string_param = region
        options["shared_memory_offset"].int64_param = offset
        options["shared_memory_byte_size"].int64_param = nbytes
    return message.SerializeToString()
