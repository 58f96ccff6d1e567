"""The client of grpclib, as clients/README.md describes it. It cannot compress messages."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError


class Bytes(CodecBase):
    """Messages are bytes already."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Call:
    def __init__(
        self, channel: Channel, number: str, kind: str, path: str, timeout: float | None, metadata: dict[str, Any]
    ) -> None:
        self.number = number
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        cardinality = Cardinality.UNARY_UNARY if kind == "unary" else Cardinality.STREAM_STREAM
        self._unary = kind == "unary"
        # grpclib takes a deadline from it when the stream is opened.
        self._stream = channel.request(path, cardinality, bytes, bytes, timeout=timeout, metadata=metadata)
        self.task = asyncio.ensure_future(self._run())
        self.task.add_done_callback(self._done)

    async def _run(self) -> None:
        try:
            await self._talk()
        except GRPCError as error:
            self._say_status(error.status, error.message or "")
        except TimeoutError:
            self._say_status(Status.DEADLINE_EXCEEDED, "")
        except (StreamTerminatedError, OSError) as error:
            self._say_status(Status.UNAVAILABLE, str(error))
        else:
            self._say_status(Status.OK, "")

    async def _talk(self) -> None:
        async with self._stream as stream:
            if self._unary:
                message = await self.requests.get()
                assert message is not None
                await stream.send_message(message, end=True)
                await self._read()
                return
            await stream.send_request()
            writing = asyncio.ensure_future(self._write())
            try:
                await self._read()
            finally:
                writing.cancel()

    async def _write(self) -> None:
        while (message := await self.requests.get()) is not None:
            await self._stream.send_message(message)
        await self._stream.end()

    async def _read(self) -> None:
        while (message := await self._stream.recv_message()) is not None:
            say("message", self.number, message.hex() or "-")
        await self._stream.recv_trailing_metadata()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # perhaps before it had begun
            self._say_status(Status.CANCELLED, "")

    def _say_status(self, status: Status, message: str) -> None:
        say("status", self.number, str(status.value), message.encode().hex() or "-")


def say(*words: str) -> None:
    print(*words, flush=True)


def decoded(metadata: str) -> dict[str, Any]:
    pairs = [] if metadata == "-" else [pair.split("=") for pair in metadata.split(",")]
    values = [(name, bytes.fromhex(value)) for name, value in pairs]
    return {name: value if name.endswith("-bin") else value.decode() for name, value in values}


async def main(address: str, compression: str) -> None:
    assert compression == "-"
    host, port = address.rsplit(":", 1)
    channel = Channel(host, int(port), codec=Bytes())
    calls: dict[str, Call] = {}
    lines = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        verb, number, *rest = line.decode().split()
        if verb == "call":
            kind, path, seconds, metadata = rest
            timeout = None if seconds == "-" else float(seconds)
            calls[number] = Call(channel, number, kind, path, timeout, decoded(metadata))
        elif verb == "send":
            calls[number].requests.put_nowait(bytes.fromhex(rest[0].strip("-")))
        elif verb == "end":
            calls[number].requests.put_nowait(None)
        else:
            calls[number].task.cancel()
    channel.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
