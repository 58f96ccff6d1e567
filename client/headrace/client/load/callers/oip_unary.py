"""The Open Inference Protocol, unary: `ModelInfer`."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from headrace.client.load.callers.caller import Request
from headrace.client.load.callers.oip_requests import oip_path, request_cache
from headrace.client.load.callers.unary import UnaryCaller
from headrace.client.load.record.samples import UNKNOWN_TIMES, ServerTimes
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Internal


def callers(settings: ConnectionSettings, request: Request, streams: int, window: int) -> Sequence[UnaryCaller]:
    method, requests = oip_path("ModelInfer"), request_cache(request)
    return [
        UnaryCaller(settings.beginning_at(number), method, requests, _read, request.timeout, window)
        for number in range(streams)
    ]


def _read(answer: bytes) -> ServerTimes:
    try:
        pb.ModelInferResponse.FromString(answer)
    except DecodeError:
        raise Internal("the server sent bytes that are not a ModelInferResponse") from None
    return UNKNOWN_TIMES
