"""`headrace.v1.Inference`, as a handler for a gRPC server."""

from __future__ import annotations

import grpc

from headrace.server.core.ports import Desk
from headrace.server.fronts.stream import StreamFront
from headrace.server.fronts.unary import UnaryFront
from headrace.v1 import inference_pb2 as pb


def inference_service(desk: Desk) -> grpc.GenericRpcHandler:
    """Messages that carry tensors come and go as bytes (no serialiser): they are counted before they are parsed."""
    stream, unary = StreamFront(desk), UnaryFront(desk)
    return grpc.method_handlers_generic_handler(
        pb.DESCRIPTOR.services_by_name["Inference"].full_name,
        {
            "Stream": grpc.stream_stream_rpc_method_handler(stream.stream),
            "Infer": grpc.unary_unary_rpc_method_handler(unary.infer),
            "ListModels": grpc.unary_unary_rpc_method_handler(
                unary.list_models,
                request_deserializer=pb.ListModelsRequest.FromString,
                response_serializer=pb.ListModelsResponse.SerializeToString,
            ),
            "DescribeModel": grpc.unary_unary_rpc_method_handler(
                unary.describe_model,
                request_deserializer=pb.DescribeModelRequest.FromString,
                response_serializer=pb.ModelDescription.SerializeToString,
            ),
            "ServerStatus": grpc.unary_unary_rpc_method_handler(
                unary.server_status,
                request_deserializer=pb.ServerStatusRequest.FromString,
                response_serializer=pb.ServerStatusResponse.SerializeToString,
            ),
        },
    )
