"""A real gRPC server on 127.0.0.1 whose streams a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from headrace.v1 import inference_pb2 as pb
from headrace.wire.frames import parse_frame
from headrace.wire.tensors import Buffer
from tests.client.protocol.tiny_server import TinyServer, message

Context = grpc.aio.ServicerContext[bytes, bytes]
Unary = Callable[[bytes, Context], Awaitable[bytes]]

CERTIFICATES = Path(__file__).parents[1] / "certificates"
CA, CERTIFICATE, KEY = (CERTIFICATES / name for name in ("ca.pem", "client.pem", "client.key"))


async def status(request: bytes, context: Context) -> bytes:
    """Answers ServerStatus."""
    return pb.ServerStatusResponse(version="7").SerializeToString()


class Peer:
    """A stream as the server sees it: the test reads commands and writes events."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.over = asyncio.Event()
        """Set when the test has finished with the stream."""
        self.patient = False
        """Whether to wait until the client half-closes."""
        self.gone = asyncio.Event()
        """Set when the call is over on this side."""

    async def next_frame(self) -> tuple[list[pb.Command], list[Buffer]] | None:
        """The commands and tensors of the next message; None when the client has half-closed."""
        data = await self.context.read()
        if not isinstance(data, bytes):
            return None
        frame, tensors = parse_frame(data, pb.ClientFrame())
        return list(frame.commands), list(tensors)

    async def commands(self, count: int) -> list[pb.Command]:
        """The next commands, without OPEN and DEFINE, from as many frames as they take."""
        commands: list[pb.Command] = []
        while len(commands) < count:
            frame = await self.next_frame()
            assert frame is not None, f"the client has half-closed after {len(commands)} commands"
            skipped = (pb.Command.OPEN, pb.Command.DEFINE)
            commands += [command for command in frame[0] if command.kind not in skipped]
        assert len(commands) == count
        return commands

    async def send(self, *events: pb.Event, tensors: tuple[bytes, ...] = ()) -> None:
        await self.context.write(message(*events, tensors=tensors))

    async def done(self, *tags: int) -> None:
        """End these tickets, which return no outputs."""
        await self.send(*(pb.Event(kind=pb.Event.DONE, tag=tag) for tag in tags))

    def end_when_closed(self) -> None:
        """Ignore further commands, and end the stream when the client has half-closed it."""
        self.patient = True
        self.over.set()

    async def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        self.context.set_code(code)
        self.context.set_details(details)
        self.over.set()
        await self.gone.wait()


class ScriptedServer(grpc.GenericRpcHandler):
    """Each stream begins with `tiny`'s Hello. Then the test controls it (`accept`), or it is `automatic`."""

    def __init__(self) -> None:
        self.tiny = TinyServer()
        self.automatic = False
        self.counting = False
        """Whether streams are only counted: after Hello, they last until the client half-closes them."""
        self.open_streams = 0
        self.greeting: bytes | None = None
        """Sent instead of Hello."""
        self.refusal: grpc.StatusCode | None = None
        """Ends each stream before Hello."""
        self.unary: dict[str, Unary] = {}
        self.metadata: list[dict[str, str | bytes]] = []
        """What came with each call, the oldest first."""
        self.target = ""
        self._peers: asyncio.Queue[Peer] = asyncio.Queue(16)
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)

    async def start(self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None) -> None:
        self._server.add_generic_rpc_handlers((self,))
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def accept(self) -> Peer:
        return await self._peers.get()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method.rpartition("/")[2]
        self.metadata.append(dict(details.invocation_metadata))
        if method == "Stream":
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if method in self.unary:
            return grpc.unary_unary_rpc_method_handler(self.unary[method])
        return None

    async def _stream(self, _: object, context: Context) -> None:
        if self.refusal is not None:
            await context.abort(self.refusal, "refused")
        if self.counting and not self.automatic:
            await self._count(context)
            return
        await self._greet(context)
        if self.automatic:
            await self._run(context)
            return
        peer = Peer(context)
        await self._peers.put(peer)
        try:
            await peer.over.wait()
            while peer.patient and await peer.next_frame() is not None:
                pass
        finally:
            peer.gone.set()

    async def _greet(self, context: Context) -> None:
        if self.greeting != b"":
            await context.write(self.greeting or self.tiny.hello())

    async def _count(self, context: Context) -> None:
        self.open_streams += 1  # before Hello, after which the client goes on
        try:
            await self._greet(context)
            while isinstance(await context.read(), bytes):
                pass
        finally:
            self.open_streams -= 1

    async def _run(self, context: Context) -> None:
        while isinstance(data := await context.read(), bytes):
            self.tiny.receive(data)
            while ready := self.tiny.ready:
                self.tiny.finish(ready[0])
            for frame in self.tiny.frames():
                await context.write(frame)


@asynccontextmanager
async def scripted_server(
    address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start(address, credentials)
    try:
        yield server
    finally:
        await server.stop()
