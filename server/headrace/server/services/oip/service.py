"""`inference.GRPCInferenceService`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.api import Control, Readiness, Streams
from headrace.server.services.call import Rpc, Service
from headrace.server.services.gate import Gate
from headrace.server.services.observing import UNOBSERVED, Observers
from headrace.server.services.oip.inference import InferRpc
from headrace.server.services.oip.metadata import MetadataRpcs
from headrace.server.services.oip.region_registry import OwnedRegions
from headrace.server.services.oip.repository import DEFAULT_LOG_FORMAT, RepositoryRpcs
from headrace.server.services.oip.requests import RequestReader
from headrace.server.services.oip.responses import ResponseWriter
from headrace.server.services.oip.shared_memory import SharedMemoryRpcs
from headrace.server.services.oip.statistics import StatisticsRpcs
from headrace.server.services.oip.streaming import StreamInferRpc
from headrace.server.services.rpcs import RpcFactory
from headrace.wire.errors import Unimplemented

Handler = Callable[[Any], Awaitable[Message]]
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "statistics",
    "logging",
    "parameters",
    "schedule_policy",
    "sequence",
)
PROBES = {"ServerLive", "ServerReady"}


def open_inference_service(
    streams: Streams,
    control: Control,
    regions: OwnedRegions | None,
    readiness: Readiness,
    rpcs: RpcFactory,
    probes: RpcFactory,
    observers: Observers = UNOBSERVED,
    log_format: str = DEFAULT_LOG_FORMAT,
) -> Service:
    """Messages with tensors are handled as bytes: their contents are counted before they are parsed.

    `regions` is None if shared memory is not allowed. `log_format` is what LogSettings calls the format of the log.
    """
    requests, responses = RequestReader(regions, streams.view), ResponseWriter(streams.view.accounts.caches)
    handlers = _handlers(streams, control, regions, readiness, rpcs.gate, log_format)
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    methods: dict[str, Rpc] = {}
    for method in service.methods:
        factory = probes if method.name in PROBES else rpcs
        handler = handlers.get(method.name) or _unimplemented(method.name)
        methods[method.name] = factory.unary(handler, getattr(pb, method.input_type.name))
    memory = SharedMemoryRpcs(regions)
    for name, of_client, request in (
        ("Status", memory.status, pb.SystemSharedMemoryStatusRequest),
        ("Register", memory.register, pb.SystemSharedMemoryRegisterRequest),
        ("Unregister", memory.unregister, pb.SystemSharedMemoryUnregisterRequest),
    ):
        methods[f"SystemSharedMemory{name}"] = rpcs.unary_of_client(of_client, request)
    methods["ModelInfer"] = rpcs.answering(InferRpc(streams, requests, responses, observers).infer)
    methods["ModelStreamInfer"] = rpcs.bidirectional(StreamInferRpc(streams, requests, responses, observers).stream)
    return Service(service.full_name, methods)


def _handlers(
    streams: Streams,
    control: Control,
    regions: OwnedRegions | None,
    readiness: Readiness,
    gate: Gate,
    log_format: str,
) -> dict[str, Handler]:
    """The handlers of the RPCs that carry no tensors."""
    extensions = (*EXTENSIONS, *(("system_shared_memory",) if regions is not None else ()))
    metadata = MetadataRpcs(streams, extensions, readiness)
    repository = RepositoryRpcs(control, gate, log_format)
    return {
        "ServerLive": metadata.server_live,
        "ServerReady": metadata.server_ready,
        "ModelReady": metadata.model_ready,
        "ServerMetadata": metadata.server_metadata,
        "ModelMetadata": metadata.model_metadata,
        "ModelConfig": metadata.model_config,
        "ModelStatistics": StatisticsRpcs(streams).model_statistics,
        "RepositoryIndex": repository.index,
        "RepositoryModelLoad": repository.load,
        "RepositoryModelUnload": repository.unload,
        "LogSettings": repository.log_settings,
    }


def _unimplemented(name: str) -> Handler:
    async def refuse(_request: object) -> Message:
        raise Unimplemented(f"{name} is not implemented by this server")

    return refuse
