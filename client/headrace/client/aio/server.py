"""Where an application starts: `connect`, and the server that it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.aio.descriptions import Descriptions
from headrace.client.aio.stream import Stream
from headrace.client.protocol.call_description import as_version, names_of, normalized
from headrace.client.protocol.health import CHECK, check_request, is_serving
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.known_models import AsGiven, DescriptionNeeded, key_of
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.models import Model, ModelState, model_from, state_from
from headrace.client.protocol.status import ServerStatus, status_from
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.unary_infer import infer_request, infer_result
from headrace.client.resuming.resumable_protocol import ResumableProtocol
from headrace.client.transport.channel import open_channel, path, wait_connected
from headrace.client.transport.resuming_transport import PATIENCE, Resumed, ResumingTransport
from headrace.client.transport.rpc_errors import cancelled_from_outside, error_of
from headrace.client.transport.stream_transport import StreamTransport
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled, DeadlineExceeded, InvalidArgument, NotFound, Unavailable

MAX_MESSAGE_BYTES = 64 << 20
"""The default of the largest message that the client takes."""
CONNECT_TIMEOUT = 5.0
"""In seconds."""
READY_TIMEOUT = 5.0
"""In seconds."""
_MIN_MESSAGE_BYTES = 64 << 10

StreamMethod = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
UnaryMethod = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


def connect(
    target: str,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Server:
    """A server at "host:port" or "unix:/path". Use it in `async with`, or close it with `close()`.

    Connects when it is first used. Then, and whenever the connection was lost, a method that needs the server tries to
    reach it for `connect_timeout` seconds before it raises Unavailable.

    `max_message_bytes` is the largest message that the client takes, at least 64 KiB. A larger output cannot be sent
    back; keep it and fetch it, which works for any size.

    Raises ValueError if `max_message_bytes` is too small.
    """
    if max_message_bytes < _MIN_MESSAGE_BYTES:
        raise ValueError(f"max_message_bytes is {max_message_bytes}; it must be at least {_MIN_MESSAGE_BYTES}")
    return Server(target, max_message_bytes, connect_timeout)


class Server:
    """A connection to a server, shared by streams and unary calls; made by `connect`."""

    def __init__(self, target: str, max_message_bytes: int, connect_timeout: float) -> None:
        self.target = target
        self._max_message_bytes = max_message_bytes
        self._connect_timeout = connect_timeout
        self._channel: grpc.aio.Channel | None = None
        self._closed = False
        self._descriptions = Descriptions(self.model)

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
        """Close the connection. Open streams end, and their tickets in flight fail with Cancelled."""
        self._closed = True
        await self._descriptions.close()
        if self._channel is not None:
            await self._channel.close()

    async def models(self) -> list[Model]:
        """The models that are served, sorted by name. Raises Unavailable."""
        response = await self._call("ListModels", pb.ListModelsRequest().SerializeToString())
        return [model_from(model) for model in pb.ListModelsResponse.FromString(response).models]

    async def model(self, name: str, version: str | int | None = None) -> Model:
        """One model, by default its newest version. Raises NotFound, Unavailable."""
        request = pb.DescribeModelRequest(name=name, version=as_version(version) or "")
        response = await self._call("DescribeModel", request.SerializeToString())
        return model_from(pb.ModelDescription.FromString(response))

    async def model_states(self) -> list[ModelState]:
        """Every version that the server knows, sorted by name and number, whether it serves or not.

        Raises Unavailable.
        """
        response = await self._call("ListModels", pb.ListModelsRequest().SerializeToString())
        return [state_from(state) for state in pb.ListModelsResponse.FromString(response).states]

    async def load_model(self, name: str) -> None:
        """Load a model from the server's disk, or load it again. What is loaded serves until the new one replaces it.

        Raises PermissionDenied unless the server lets clients control models, NotFound, and FailedPrecondition for a
        model that cannot be loaded.
        """
        await self._call("LoadModel", pb.LoadModelRequest(name=name).SerializeToString())

    async def unload_model(self, name: str) -> None:
        """Unload all versions of a model; tickets in flight still end. Raises PermissionDenied, NotFound."""
        await self._call("UnloadModel", pb.UnloadModelRequest(name=name).SerializeToString())

    async def status(self) -> ServerStatus:
        """The load of the server at this moment. Raises Unavailable."""
        response = await self._call("ServerStatus", pb.ServerStatusRequest().SerializeToString())
        return status_from(pb.ServerStatusResponse.FromString(response))

    async def is_ready(self, *, timeout: float = READY_TIMEOUT) -> bool:
        """Whether the server wants work: all its models have been loaded, and it is not about to stop.

        A server that is not reached, or does not answer within `timeout` seconds, is not ready.
        """
        return await self._is_serving("", timeout)

    async def model_is_ready(
        self, name: str, version: str | int | None = None, *, timeout: float = READY_TIMEOUT
    ) -> bool:
        """Whether a model, or a version of it, can be used. One that does not exist is not ready; nor is any model of a
        server that is about to stop, is not reached, or does not answer within `timeout` seconds.
        """
        number = as_version(version)
        return await self._is_serving(f"{name}/{number}" if number else name, timeout)

    async def _is_serving(self, service: str, timeout: float) -> bool:
        try:
            return is_serving(await self._call(CHECK, check_request(service), timeout))
        except (Unavailable, DeadlineExceeded, NotFound):
            return False

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Iterable[str] | None = None,
        version: str | int | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Outputs:
        """Run one inference by itself, for scripts, and return its outputs by name, as read-only arrays.

        The arguments are those of `Stream.submit`. References and `keep` need a stream, and a stream is faster.
        `timeout` counts from this call. Raises any HeadraceError.
        """
        names = names_of(model, version, outputs, ())
        given, plain = normalized(inputs)
        try:
            fitted = self._descriptions.known.fit(names, given, plain)
        except DescriptionNeeded:
            started = asyncio.get_running_loop().time()
            fitted = await self._descriptions.fit(names, given, plain, timeout)
            if timeout is not None:
                timeout -= asyncio.get_running_loop().time() - started
        request = infer_request(names, fitted, timeout, priority)
        try:
            response = await self._call("Infer", request, timeout)
        except (InvalidArgument, NotFound):
            self._descriptions.known.forget(key_of(names))
            raise
        return infer_result(response, names[2]).outputs

    def stream(
        self,
        *,
        ordered: bool = False,
        resume: bool = False,
        patience: float = PATIENCE,
        on_resume: Callable[[Resumed], object] | None = None,
    ) -> Stream:
        """A stream, to use in `async with`.

        Entering it raises Unavailable if the server cannot be reached.

        `ordered`: tickets end in the order in which they were submitted, failures included. Fetches and refusals do not
        wait for their turn.
        `resume`: the stream outlives its connection. When it breaks or the server stops, it is opened again, at this
        server or another one of the target, and the unfinished tickets are sent again, with the kept outputs that they
        need. A ticket may then run twice; it ends once. Submitting waits meanwhile. An inference that was in flight at
        three breaks fails with Internal, because it may be what ends the servers. Costs the memory of the inputs in
        flight, and of those from which kept outputs can be made again.
        `patience`: after so many seconds without a connection, a stream with `resume` ends with Unavailable.
        `on_resume`: called with a `Resumed` after each break of a stream with `resume`. It must not block.
        """

        async def greeted(timeout: float) -> StreamTransport:
            if self._closed:
                raise Cancelled("the connection was closed")
            channel = await self._connected(timeout)
            start: StreamMethod = channel.stream_stream(path("Stream"))
            models = AsGiven() if resume else self._descriptions.known
            protocol = StreamProtocol(self._max_message_bytes, ordered=ordered, models=models)
            transport = StreamTransport(start(), protocol, self.target)
            await transport.greet(timeout)
            return transport

        async def open_transport() -> StreamTransport:
            transport = await greeted(self._connect_timeout)
            if not resume:
                transport.start()
                return transport
            clock, models = asyncio.get_running_loop().time, self._descriptions.known
            protocol = ResumableProtocol(self._max_message_bytes, clock, ordered=ordered, models=models)
            return ResumingTransport(transport, protocol, self.target, greeted, patience, on_resume)

        return Stream(self.target, open_transport, self._descriptions)

    async def _call(self, method: str, request: bytes, timeout: float | None = None) -> bytes:
        connect_timeout = self._connect_timeout if timeout is None else min(timeout, self._connect_timeout)
        channel = await self._connected(connect_timeout)
        call: UnaryMethod = channel.unary_unary(path(method))
        try:
            return await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.target) from None
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            raise Cancelled("the connection was closed") from None

    async def _connected(self, timeout: float) -> grpc.aio.Channel:
        if self._closed:
            raise RuntimeError(f"{self!r} was closed; connect() returns a new one")
        if self._channel is None:
            self._channel = open_channel(self.target, self._max_message_bytes)
        await wait_connected(self._channel, self.target, timeout)
        return self._channel

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._channel is None else "open"
        return f"<Server at {self.target}, {state}>"
