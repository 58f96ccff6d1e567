"""What a server of the Open Inference Protocol says of itself, of a model, and of what it has done."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.aio.server import CONNECT_TIMEOUT, MAX_MESSAGE_BYTES
from headrace.client.load.calling.oip_requests import oip_path
from headrace.client.load.calling.totals import Totals
from headrace.client.protocol.models import Model, Port
from headrace.client.transport.channel import open_channel, wait_connected
from headrace.client.transport.rpc_errors import error_of
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Unimplemented

PATIENCE = 10.0
"""Seconds for an answer."""


async def describe_model(target: str, name: str, version: str) -> tuple[Model, str]:
    """A model, and the server's name and version. Raises HeadraceError."""
    async with OipServer(target) as server:
        return await server.model(name, version), await server.name()


class OipServer:
    """A connection of its own, so that questions do not wait behind requests."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel = open_channel(target, MAX_MESSAGE_BYTES)

    async def __aenter__(self) -> OipServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def name(self) -> str:
        """With the version. Raises HeadraceError."""
        answer = await self._ask("ServerMetadata", pb.ServerMetadataRequest().SerializeToString())
        metadata = pb.ServerMetadataResponse.FromString(answer)
        return f"{metadata.name} {metadata.version}".strip()

    async def model(self, name: str, version: str) -> Model:
        """Raises HeadraceError."""
        request = pb.ModelMetadataRequest(name=name, version=version)
        metadata = pb.ModelMetadataResponse.FromString(await self._ask("ModelMetadata", request.SerializeToString()))
        newest = max(metadata.versions, key=_age, default="")
        inputs, outputs = _ports(metadata.inputs), _ports(metadata.outputs)
        return Model(metadata.name, version or newest, inputs, outputs, has_variables=False, slots=0)

    async def totals(self, name: str, version: str) -> Totals | None:
        """Of all versions, if none is named. None when the server does not say."""
        request = pb.ModelStatisticsRequest(name=name, version=version).SerializeToString()
        call = self._unary("ModelStatistics")
        try:
            answer = pb.ModelStatisticsResponse.FromString(await call(request, timeout=PATIENCE))
        except grpc.aio.AioRpcError:
            return None
        each = [model.inference_stats for model in answer.model_stats if model.name == name]
        return Totals(
            sum(stats.success.count for stats in each),
            sum(stats.queue.ns for stats in each) / 1e9,
            sum(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns for stats in each) / 1e9,
        )

    async def _ask(self, method: str, request: bytes) -> bytes:
        await wait_connected(self._channel, self._target, CONNECT_TIMEOUT)
        try:
            return await self._unary(method)(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                text = f"{self._target} does not speak the Open Inference Protocol; try --protocol headrace"
                raise Unimplemented(text) from None
            raise error_of(error, self._target) from None

    def _unary(self, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        return self._channel.unary_unary(oip_path(method))


def _ports(tensors: Iterable[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[Port, ...]:
    return tuple(
        Port(tensor.name, tensor.datatype, tuple(None if size < 0 else size for size in tensor.shape), (tensor.name,))
        for tensor in tensors
    )


def _age(version: str) -> tuple[int, str]:
    return int(version) if version.isdecimal() else -1, version
