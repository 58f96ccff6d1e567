"""What a server of the Open Inference Protocol reports about itself, a model, and its statistics."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

import grpc
import grpc.aio

from headrace.client.load.callers.model_totals import ModelTotals
from headrace.client.load.callers.oip_requests import oip_path
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.models import Model, Port
from headrace.client.transport.channel import open_channel
from headrace.client.transport.connecting import wait_connected
from headrace.client.transport.credentials import call_metadata
from headrace.client.transport.rpc_errors import error_of
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Unimplemented

ANSWER_TIMEOUT_SECONDS = 10.0


async def describe_oip_model(settings: ConnectionSettings, name: str, version: str) -> tuple[Model, str]:
    """Describe a model; also returns the server's name and version. Raises HeadraceError."""
    async with OipConnection(settings) as server:
        return await server.model(name, version), await server.name()


class OipConnection:
    """A connection for metadata, so that these calls do not wait behind inference requests."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings.beginning_at(0)
        self._address = self._settings.first_address
        self._channel = open_channel(self._settings, self._address)

    async def __aenter__(self) -> OipConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def name(self) -> str:
        """The server's name and version. Raises HeadraceError."""
        answer = await self._ask("ServerMetadata", pb.ServerMetadataRequest().SerializeToString())
        metadata = pb.ServerMetadataResponse.FromString(answer)
        return f"{metadata.name} {metadata.version}".strip()

    async def model(self, name: str, version: str) -> Model:
        """Describe a model, by default its newest version. Raises HeadraceError."""
        request = pb.ModelMetadataRequest(name=name, version=version)
        metadata = pb.ModelMetadataResponse.FromString(await self._ask("ModelMetadata", request.SerializeToString()))
        newest = max(metadata.versions, key=_version_order, default="")
        inputs, outputs = _ports(metadata.inputs), _ports(metadata.outputs)
        return Model(metadata.name, version or newest, inputs, outputs, has_variables=False, slots=0)

    async def totals(self, name: str, version: str) -> ModelTotals | None:
        """The totals of a version, or of all versions if `version` is empty; None if the server keeps no statistics."""
        request = pb.ModelStatisticsRequest(name=name, version=version).SerializeToString()
        try:
            answer = pb.ModelStatisticsResponse.FromString(await self._call("ModelStatistics", request))
        except grpc.aio.AioRpcError:
            return None
        each = [model.inference_stats for model in answer.model_stats if model.name == name]
        return ModelTotals(
            sum(stats.success.count for stats in each),
            sum(stats.queue.ns for stats in each) / 1e9,
            sum(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns for stats in each) / 1e9,
        )

    async def _ask(self, method: str, request: bytes) -> bytes:
        settings = self._settings
        await wait_connected(self._channel, settings, self._address, settings.connect_timeout)
        try:
            return await self._call(method, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                text = f"{self._address} does not speak the Open Inference Protocol; try --protocol headrace"
                raise Unimplemented(text) from None
            raise error_of(error, str(self._address)) from None

    async def _call(self, method: str, request: bytes) -> bytes:
        call = self._channel.unary_unary(oip_path(method))
        return await call(request, timeout=ANSWER_TIMEOUT_SECONDS, metadata=call_metadata(self._settings))


def _ports(tensors: Iterable[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[Port, ...]:
    return tuple(
        Port(tensor.name, tensor.datatype, tuple(None if size < 0 else size for size in tensor.shape), (tensor.name,))
        for tensor in tensors
    )


def _version_order(version: str) -> tuple[int, str]:
    return int(version) if version.isdecimal() else -1, version
