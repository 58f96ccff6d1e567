"""`headrace.v1.Inference`."""

from __future__ import annotations

from headrace.server.services.api import Streams
from headrace.server.services.call import Service
from headrace.server.services.native.stream import StreamRpc
from headrace.server.services.native.unary import UnaryRpcs
from headrace.server.services.rpcs import RpcFactory
from headrace.v1 import inference_pb2 as pb


def inference_service(streams: Streams, rpcs: RpcFactory, probes: RpcFactory) -> Service:
    """Messages with tensors are handled as bytes: their contents are counted before they are parsed."""
    unary = UnaryRpcs(streams)
    return Service(
        pb.DESCRIPTOR.services_by_name["Inference"].full_name,
        {
            "Stream": rpcs.bidirectional(StreamRpc(streams).stream),
            "Infer": rpcs.raw_unary(unary.infer),
            "ListModels": rpcs.unary(unary.list_models, pb.ListModelsRequest),
            "DescribeModel": rpcs.unary(unary.describe_model, pb.DescribeModelRequest),
            "ServerStatus": probes.unary(unary.server_status, pb.ServerStatusRequest),
        },
    )
