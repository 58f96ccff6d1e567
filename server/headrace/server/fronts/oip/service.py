"""`inference.GRPCInferenceService`, as a handler for a gRPC server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.ports import Control, Desk
from headrace.server.fronts.oip.inference import InferRpc
from headrace.server.fronts.oip.metadata import MetadataRpcs
from headrace.server.fronts.oip.repository import RepositoryRpcs
from headrace.server.fronts.oip.requests import Requests
from headrace.server.fronts.oip.responses import Responses
from headrace.server.fronts.oip.shared_memory import Regions, SharedMemoryRpcs
from headrace.server.fronts.oip.statistics import StatisticsRpcs
from headrace.server.fronts.oip.streaming import StreamInferRpc
from headrace.server.fronts.status import abort
from headrace.wire.errors import Unimplemented

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "statistics",
    "logging",
    "parameters",
    "schedule_policy",
)


def open_inference_service(desk: Desk, control: Control, regions: Regions | None) -> grpc.GenericRpcHandler:
    """Requests and responses of inferences come and go as bytes: they are counted before they are parsed.

    `regions` None: shared memory is not allowed.
    """
    requests, responses = Requests(regions, desk.core.queue), Responses()
    metadata = MetadataRpcs(desk, (*EXTENSIONS, *(("system_shared_memory",) if regions is not None else ())))
    repository, memory = RepositoryRpcs(desk, control), SharedMemoryRpcs(desk, regions)
    handlers: dict[str, Handler] = {
        "ServerLive": metadata.server_live,
        "ServerReady": metadata.server_ready,
        "ModelReady": metadata.model_ready,
        "ServerMetadata": metadata.server_metadata,
        "ModelMetadata": metadata.model_metadata,
        "ModelConfig": metadata.model_config,
        "ModelStatistics": StatisticsRpcs(desk).model_statistics,
        "RepositoryIndex": repository.index,
        "RepositoryModelLoad": repository.load,
        "RepositoryModelUnload": repository.unload,
        "LogSettings": repository.log_settings,
        "SystemSharedMemoryStatus": memory.status,
        "SystemSharedMemoryRegister": memory.register,
        "SystemSharedMemoryUnregister": memory.unregister,
    }
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    rpcs = {
        method.name: _unary(handlers.get(method.name) or _unimplemented(method.name), method)
        for method in service.methods
    }
    rpcs["ModelInfer"] = grpc.unary_unary_rpc_method_handler(InferRpc(desk, requests, responses).infer)
    stream = StreamInferRpc(desk, requests, responses)
    rpcs["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(stream.stream)
    return grpc.method_handlers_generic_handler(service.full_name, rpcs)


def _unary(handler: Handler, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
    messages = {name: getattr(pb, name) for name in (method.input_type.name, method.output_type.name)}
    return grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=messages[method.input_type.name].FromString,
        response_serializer=messages[method.output_type.name].SerializeToString,
    )


def _unimplemented(name: str) -> Handler:
    async def refuse(_request: object, context: Context) -> None:
        await abort(context, Unimplemented(f"{name} is not implemented by this server"))

    return refuse
