"""The way in: `connect`, and the server as seen from there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.aio.stream import Stream
from headrace.client.aio.ticket import Ticket
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.models import Model, ServerStatus, model_of, status_of
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.unary_infer import Outputs, infer_answer, infer_request
from headrace.client.transport.channel import cancelled_from_outside, error_of, open_channel, path, reach
from headrace.client.transport.stream_transport import StreamTransport
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled

MAX_MESSAGE_BYTES = 64 << 20
CONNECT_TIMEOUT = 5.0
"""Seconds."""
_LEAST_MESSAGE_BYTES = 64 << 10

Starter = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
Caller = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


def connect(
    target: str,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Server:
    """A server at "host:port" or "unix:/path", to be used as `async with` or closed with `close()`.

    Nothing is opened before it is used; then, and whenever the connection was lost, what needs the
    server tries to reach it for `connect_timeout` seconds before it raises Unavailable.

    `max_message_bytes` is the largest message that this side takes, at least 64 KiB. An output that
    does not fit in one cannot be sent back; it can be kept, and fetched whatever its size.
    """
    if max_message_bytes < _LEAST_MESSAGE_BYTES:
        raise ValueError(f"max_message_bytes is at least {_LEAST_MESSAGE_BYTES}")
    return Server(target, max_message_bytes, connect_timeout)


class Server:
    """A connection to a server; made by `connect`. Streams and unary calls share it."""

    def __init__(self, target: str, max_message_bytes: int, connect_timeout: float) -> None:
        self.target = target
        self._max_message_bytes = max_message_bytes
        self._connect_timeout = connect_timeout
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Streams still open end; what they have in flight is Cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def models(self) -> list[Model]:
        """The models that are served, in the order of their names. Raises Unavailable."""
        answer = await self._call("ListModels", pb.ListModelsRequest().SerializeToString())
        return [model_of(model) for model in pb.ListModelsResponse.FromString(answer).models]

    async def model(self, name: str, version: str | None = None) -> Model:
        """One model; without a version the newest. Raises NotFound, Unavailable."""
        request = pb.DescribeModelRequest(name=name, version=version or "")
        answer = await self._call("DescribeModel", request.SerializeToString())
        return model_of(pb.ModelDescription.FromString(answer))

    async def status(self) -> ServerStatus:
        """What the server holds at this moment. Raises Unavailable."""
        answer = await self._call("ServerStatus", pb.ServerStatusRequest().SerializeToString())
        return status_of(pb.ServerStatusResponse.FromString(answer))

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Outputs:
        """One inference by itself, for scripts: the outputs by name, as read-only arrays.

        Arguments are those of `Stream.submit`; references and `keep` need a stream, and so does
        speed. `timeout` counts from here. Raises any HeadraceError.
        """
        request = infer_request(model, version, inputs, outputs, timeout, priority)
        return infer_answer(await self._call("Infer", request, timeout), outputs).outputs

    def stream(self, *, ordered: bool = False) -> Stream:
        """A stream, to be used as `async with`.

        Entering it raises Unavailable when the server cannot be reached.

        `ordered`: tickets end in the order in which they were submitted, failures included; fetches
        and refusals do not wait for their turn.
        """

        async def open_exchange() -> StreamTransport:
            channel = await self._reached(self._connect_timeout)
            start: Starter = channel.stream_stream(path("Stream"))
            state = StreamProtocol[Ticket](self._max_message_bytes, ordered=ordered)
            exchange = StreamTransport(start(), state, self.target)
            await exchange.open(self._connect_timeout)
            return exchange

        return Stream(self.target, open_exchange)

    async def _call(self, method: str, request: bytes, timeout: float | None = None) -> bytes:
        patience = self._connect_timeout if timeout is None else min(timeout, self._connect_timeout)
        channel = await self._reached(patience)
        call: Caller = channel.unary_unary(path(method))
        try:
            return await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.target) from None
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            raise Cancelled("the connection was closed") from None

    async def _reached(self, timeout: float) -> grpc.aio.Channel:
        if self._closed:
            raise RuntimeError(f"{self!r} was closed; connect() makes a new one")
        if self._channel is None:
            self._channel = open_channel(self.target, self._max_message_bytes)
        await reach(self._channel, self.target, timeout)
        return self._channel

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._channel is None else "open"
        return f"<Server at {self.target}, {state}>"
