"""`headrace.v1.Inference`."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.services.api import Control, Streams
from headrace.server.services.call import Service
from headrace.server.services.native.control import ControlRpcs
from headrace.server.services.native.stream import StreamRpc
from headrace.server.services.native.unary import UnaryRpcs
from headrace.server.services.observing import UNOBSERVED, Observers
from headrace.server.services.rpcs import RpcFactory
from headrace.v1 import inference_pb2 as pb


def inference_service(
    streams: Streams,
    control: Control,
    rpcs: RpcFactory,
    probes: RpcFactory,
    observers: Observers = UNOBSERVED,
    loop_lag: Callable[[], float] = lambda: 0.0,
) -> Service:
    """Messages with tensors are handled as bytes: their contents are counted before they are parsed.

    `loop_lag`: for how many seconds something that was due had to wait for the event loop.
    """
    unary, models = UnaryRpcs(streams, observers, loop_lag), ControlRpcs(streams, control, rpcs.gate)
    return Service(
        pb.DESCRIPTOR.services_by_name["Inference"].full_name,
        {
            "Stream": rpcs.bidirectional(StreamRpc(streams, observers).stream),
            "Infer": rpcs.answering(unary.infer),
            "ListModels": rpcs.unary(models.list_models, pb.ListModelsRequest),
            "DescribeModel": rpcs.unary(models.describe_model, pb.DescribeModelRequest),
            "LoadModel": rpcs.unary(models.load, pb.LoadModelRequest),
            "UnloadModel": rpcs.unary(models.unload, pb.UnloadModelRequest),
            "ServerStatus": probes.unary(unary.server_status, pb.ServerStatusRequest),
        },
    )
