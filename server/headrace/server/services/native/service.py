"""`headrace.v1.Inference`, as a handler for a gRPC server."""

from __future__ import annotations

import grpc

from headrace.server.services.api import Desk
from headrace.server.services.native.stream import StreamFront
from headrace.server.services.native.unary import UnaryFront
from headrace.server.services.rpcs import Rpcs
from headrace.v1 import inference_pb2 as pb


def inference_service(desk: Desk, rpcs: Rpcs, probes: Rpcs) -> grpc.GenericRpcHandler:
    """Messages that carry tensors come and go as bytes: they are counted before they are parsed."""
    unary = UnaryFront(desk)
    return grpc.method_handlers_generic_handler(
        pb.DESCRIPTOR.services_by_name["Inference"].full_name,
        {
            "Stream": rpcs.stream(StreamFront(desk).stream),
            "Infer": rpcs.raw_unary(unary.infer),
            "ListModels": rpcs.unary(unary.list_models, pb.ListModelsRequest),
            "DescribeModel": rpcs.unary(unary.describe_model, pb.DescribeModelRequest),
            "ServerStatus": probes.unary(unary.server_status, pb.ServerStatusRequest),
        },
    )
