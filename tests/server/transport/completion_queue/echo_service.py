"""A server on a completion queue whose service echoes, in each of the ways in which a service may be written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from headrace.server.dispatcher.event_loop import PollingLoop
from headrace.server.services.call import (
    AnswerableCall,
    Answering,
    Bidirectional,
    Call,
    ServerStreaming,
    Service,
    Unary,
)
from headrace.server.services.gate import Gate
from headrace.server.transport.addresses import addresses_to_bind
from headrace.server.transport.completion_queue.selector import CompletionQueueSelector
from headrace.server.transport.completion_queue.server import CompletionQueueServer
from headrace.server.transport.entrance import Entrance
from headrace.server.transport.options import ServerOptions
from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError, Internal
from tests.server.transport.completion_queue.loops import transport_and_loop

NAME = "test.Echo"
MAX_BYTES = 1 << 20
HELD = b"held"
"""A message that is answered when the call is cancelled, that is never."""


class Echo:
    """`held` counts calls that wait for ever, `cancelled` those that were cancelled meanwhile."""

    def __init__(self, limit: int) -> None:
        self.gate = Gate(limit, "the limit")
        self.held = self.cancelled = 0
        self.service = Service(
            NAME,
            {
                "Answer": Answering(self._answer, self.gate),
                "Unary": Unary(self._unary, self.gate),
                "Repeat": ServerStreaming(self._repeat, self.gate),
                "Burst": ServerStreaming(self._burst, self.gate),
                "Stream": Bidirectional(self._stream, self.gate),
                "Callbacks": Bidirectional(self._callbacks, self.gate),
            },
        )

    def _answer(self, message: bytes, call: AnswerableCall) -> None:
        if message == HELD:
            self.held += 1
            call.on_end = self._end
        elif message == b"late":
            asyncio.get_running_loop().call_later(0.01, call.respond, message)
        elif message == b"fails":
            call.fail(Internal("as asked"))
        elif message == b"raises":
            raise ValueError("secret")
        else:
            call.respond(message)

    def _end(self) -> None:
        self.cancelled += 1

    async def _hold(self) -> None:
        self.held += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled += 1

    async def _unary(self, message: bytes, _call: Call) -> bytes:
        if message == HELD:
            await self._hold()
        await asyncio.sleep(0)
        return message

    async def _repeat(self, message: bytes, call: Call) -> None:
        for _ in range(3):
            await call.write(message)
        if message == HELD:
            await self._hold()

    async def _burst(self, message: bytes, call: Call) -> None:
        """Messages of the sizes that are asked for, each with the word that more follows, which is the status last."""
        for number, size in enumerate(message.split()):
            written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            call.write_then(bytes([number]) * int(size), written.set_result, more=True)
            assert await written

    async def _stream(self, call: Call) -> None:
        while (message := await call.read()) is not call.end:
            if message == HELD:
                await self._hold()
            await call.write(message)

    async def _callbacks(self, call: Call) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def read(message: bytes | None) -> None:
            if message is None:
                if not done.done():
                    done.set_result(None)
            else:
                call.write_then(message, written)

        def written(delivered: bool) -> None:
            if delivered and not done.done():
                call.read_then(read)

        call.read_then(read)
        await done


class Served:
    """`run` runs a client's blocking work on a thread while the loop serves, and returns its result."""

    def __init__(
        self,
        loop: PollingLoop,
        selector: CompletionQueueSelector,
        server: CompletionQueueServer,
        echo: Echo,
        address: str,
    ) -> None:
        self.loop, self.selector, self.server, self.echo, self.address = loop, selector, server, echo, address
        self.incidents: list[BaseException] = []

    def run(self, work: Callable[[grpc.Channel], None], *, seconds: float = 60.0) -> None:
        def connected() -> None:
            with grpc.insecure_channel(self.address, [("grpc.max_receive_message_length", -1)]) as channel:
                work(channel)

        self.loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(connected), seconds))

    def until(self, condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            self.loop.run_until_complete(asyncio.sleep(0.005))

    def stop(self, grace: float | None) -> None:
        self.loop.run_until_complete(asyncio.wait_for(self.server.stop(grace), 20))

    def assert_idle(self) -> None:
        """No call is left anywhere."""
        self.until(lambda: "0 calls" in repr(self.server))
        assert "0 calls" in repr(self.server.receiving)
        self.echo.gate.close()
        self.loop.run_until_complete(asyncio.wait_for(self.echo.gate.wait_closed(), 5))


@contextmanager
def echo_server(*, limit: int = 1000, calls: int = 1000) -> Iterator[Served]:
    """A running server, stopped and with its queue drained afterwards."""
    with transport_and_loop() as (transport, loop):
        echo = Echo(limit)

        def status_of(error: BaseException, call: Call, rpc: str) -> HeadraceError:
            if isinstance(error, HeadraceError):
                return error
            assert rpc.startswith(echo.service.name)
            served.incidents.append(error)
            return Internal("an incident")

        async def start() -> Served:
            options = ServerOptions(calls, MAX_BYTES, "none")
            server = transport.server([echo.service], Entrance(), status_of, Receiving(), options)
            addresses = addresses_to_bind("127.0.0.1", 0)
            server.listen(addresses, None)
            await server.start()
            return Served(loop, transport.selector, server, echo, addresses.shown)

        served = loop.run_until_complete(start())
        yield served
        served.stop(None)
        assert "0 calls" in repr(served.server)


def unary(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(f"/{NAME}/{method}")


def streaming(channel: grpc.Channel, method: str) -> grpc.StreamStreamMultiCallable[bytes, bytes]:
    return channel.stream_stream(f"/{NAME}/{method}")
