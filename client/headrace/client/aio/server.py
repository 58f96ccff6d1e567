"""Where an application starts: `connect`, and the server that it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from google.protobuf.message import Message

from headrace.client.aio.descriptions import Descriptions
from headrace.client.aio.stream import Stream
from headrace.client.protocol.call_description import as_version, names_of, normalized
from headrace.client.protocol.connection_settings import (
    CALL_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_MESSAGE_BYTES,
    RETRIES,
    ConnectionSettings,
    Metadata,
    Options,
    Tls,
    Token,
    pairs,
)
from headrace.client.protocol.health import CHECK, check_request, is_serving
from headrace.client.protocol.inputs import Inputs
from headrace.client.protocol.known_models import AsGiven, DescriptionNeeded, key_of
from headrace.client.protocol.layouts import Outputs
from headrace.client.protocol.models import Model, ModelState, model_from, state_from
from headrace.client.protocol.status import ServerStatus, status_from
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.timeouts import seconds
from headrace.client.protocol.unary_infer import infer_request, infer_result
from headrace.client.resuming.resumable_protocol import ResumableProtocol
from headrace.client.transport.credentials import read_tls
from headrace.client.transport.resuming_transport import PATIENCE, Resumed, ResumingTransport
from headrace.client.transport.server_connection import ServerConnection
from headrace.client.transport.stream_transport import StreamTransport
from headrace.client.transport.trace_context import trace_parents
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Cancelled, DeadlineExceeded, InvalidArgument, NotFound, Unavailable

READY_TIMEOUT = 5.0
"""In seconds."""


def connect(
    target: str,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    connect_timeout: float = CONNECT_TIMEOUT,
    timeout: float = CALL_TIMEOUT,
    retries: int = RETRIES,
    tls: bool | str | Path | bytes | Tls | None = None,
    token: Token | None = None,
    plain_token: bool = False,
    metadata: Metadata = (),
    options: Options = (),
) -> Server:
    """A server at "host:port" or "unix:/path". Use it in `async with`, or close it with `close()`.

    Connects when it is first used. Then, and whenever the connection was lost, a method that needs the server tries to
    reach it for `connect_timeout` seconds before it raises Unavailable. It raises at once what waiting cannot mend,
    such as an unknown host.

    Several servers with the same models are named "a:8001,b:8001", or "dns:///name:8001" for all addresses of a name.
    Each stream goes to the address with the fewest open streams, and unary calls take turns. An address that does not
    answer is avoided, and tried again later. With dns:///, gRPC chooses, in turn.

    `max_message_bytes` is the largest message that the client takes, at least 64 KiB. A larger output cannot be sent
    back; keep it and fetch it, which works for any size.
    `timeout`: the seconds that a call about models or the server may take, unless it is given its own.
    `retries`: how often a call that failed with a retryable error is made again, within its timeout, after waits that
    double from 0.1 s. An inference may so run twice, which has no effect. `load_model` and `unload_model` are not
    retried, and neither is a ticket of a stream.
    `tls`: True, a file of CA certificates (its path, or its content as bytes), or a `Tls`. None is plain text.
    `token`: sent with each call as `authorization: Bearer TOKEN`; a callable is asked each time, and must not block.
    `plain_token`: send it to another machine even without `tls`, such as to a proxy on the way that encrypts.
    `metadata`: sent with each call, as a mapping or as pairs. Keys are in lower case.
    `options`: gRPC's channel options, as a mapping or as pairs.

    The environment's proxy (`http_proxy`) is not used for addresses of this machine.

    Raises ValueError for an address that cannot be right, a file that cannot be used, and a value out of bounds.
    """
    return Server(
        ConnectionSettings(
            target=target,
            max_message_bytes=max_message_bytes,
            connect_timeout=connect_timeout,
            timeout=timeout,
            retries=retries,
            tls=read_tls(tls),
            token=token,
            plain_token=plain_token,
            metadata=pairs(metadata),
            options=pairs(options),
        )
    )


class Server:
    """A connection to a server, shared by streams and unary calls; made by `connect`."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.target = settings.target
        self._connection = ServerConnection(settings)
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
        await self._connection.close()
        await self._descriptions.close()

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """The models that are served, sorted by name.

        `timeout`: seconds, connecting and retries included; None is the `timeout` of `connect`, and `math.inf` none.
        Raises Unavailable, DeadlineExceeded.
        """
        response = await self._ask("ListModels", pb.ListModelsRequest(), timeout)
        return [model_from(model) for model in pb.ListModelsResponse.FromString(response).models]

    async def model(self, name: str, version: str | int | None = None, *, timeout: float | None = None) -> Model:
        """One model, by default its newest version.

        `timeout` as of `models`. Raises NotFound, Unavailable, DeadlineExceeded.
        """
        request = pb.DescribeModelRequest(name=name, version=as_version(version) or "")
        response = await self._ask("DescribeModel", request, timeout)
        return model_from(pb.ModelDescription.FromString(response))

    async def model_states(self, *, timeout: float | None = None) -> list[ModelState]:
        """Every version that the server knows, sorted by name and number, whether it serves or not.

        `timeout` as of `models`. Raises Unavailable, DeadlineExceeded.
        """
        response = await self._ask("ListModels", pb.ListModelsRequest(), timeout)
        return [state_from(state) for state in pb.ListModelsResponse.FromString(response).states]

    async def load_model(self, name: str, *, timeout: float | None = None) -> None:
        """Load a model from the server's disk, or load it again. What is loaded serves until the new one replaces it.

        With several addresses, one server loads it. `timeout`: seconds; by default as long as it takes.

        Raises PermissionDenied unless the server lets clients control models, NotFound, and FailedPrecondition for a
        model that cannot be loaded.
        """
        request = pb.LoadModelRequest(name=name).SerializeToString()
        await self._connection.call("LoadModel", request, timeout, retries=0)

    async def unload_model(self, name: str, *, timeout: float | None = None) -> None:
        """Unload all versions of a model; tickets in flight still end. Raises PermissionDenied, NotFound."""
        request = pb.UnloadModelRequest(name=name).SerializeToString()
        await self._connection.call("UnloadModel", request, timeout, retries=0)

    async def status(self, *, timeout: float | None = None) -> ServerStatus:
        """The load of the server at this moment; with several addresses, of one of the servers.

        `timeout` as of `models`. Raises Unavailable, DeadlineExceeded.
        """
        response = await self._ask("ServerStatus", pb.ServerStatusRequest(), timeout)
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
            return is_serving(await self._connection.call(CHECK, check_request(service), timeout, retries=0))
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
        timeout = None if timeout is None else seconds(timeout)
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
            response = await self._connection.call("Infer", request, timeout, retries=self._connection.settings.retries)
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
        `resume`: the stream outlives its connection. When it breaks, or the server stops or asks it to move, it is
        opened again, at this server or another one of the target, and the unfinished tickets are sent again, with the
        kept outputs that they need. A ticket may then run twice; it ends once. Submitting waits meanwhile. An inference
        that was in flight at three breaks fails with Internal, because it may be what ends the servers. Costs the
        memory of the inputs in flight, and of those from which kept outputs can be made again.
        `patience`: after so many seconds without a connection, a stream with `resume` ends with Unavailable.
        `on_resume`: called with a `Resumed` after each break of a stream with `resume`. It must not block.
        """
        patience = seconds(patience, "patience")
        connection, known = self._connection, self._descriptions.known
        models = AsGiven() if resume else known

        async def greeted(timeout: float, *, ready: bool = True) -> StreamTransport:
            if connection.closed:
                raise Cancelled("the connection was closed")
            return await connection.open_stream(timeout, ordered=ordered, models=models, ready=ready, can_move=resume)

        async def open_transport() -> StreamTransport:
            transport = await greeted(connection.settings.connect_timeout, ready=False)
            if not resume:
                protocol = transport.protocol
                assert isinstance(protocol, StreamProtocol)
                protocol.trace_parents = trace_parents()
                transport.start()
                return transport
            clock, limit = asyncio.get_running_loop().time, connection.settings.max_message_bytes
            resumable = ResumableProtocol(limit, clock, ordered=ordered, models=known)
            return ResumingTransport(transport, resumable, self.target, greeted, patience, on_resume)

        return Stream(self.target, open_transport, self._descriptions)

    async def _ask(self, method: str, request: Message, timeout: float | None) -> bytes:
        """A call that a server answers at once, if it answers."""
        settings = self._connection.settings
        limit = settings.timeout if timeout is None else timeout
        message = request.SerializeToString()
        return await self._connection.call(method, message, limit, retries=settings.retries, prompt=True)

    def __repr__(self) -> str:
        return repr(self._connection)
