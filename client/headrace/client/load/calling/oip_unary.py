"""The Open Inference Protocol, unary: `ModelInfer`."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from headrace.client.load.calling import Request
from headrace.client.load.calling.oip_requests import oip_path, writer
from headrace.client.load.calling.unary import UnaryCaller
from headrace.client.load.samples import UNTOLD, Times
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Internal


def callers(target: str, request: Request, streams: int, window: int, max_message_bytes: int) -> Sequence[UnaryCaller]:
    method, written = oip_path("ModelInfer"), writer(request)
    return [
        UnaryCaller(target, method, written, _read, request.timeout, window, max_message_bytes) for _ in range(streams)
    ]


def _read(answer: bytes) -> Times:
    try:
        pb.ModelInferResponse.FromString(answer)
    except DecodeError:
        raise Internal("the server sent what is no ModelInferResponse") from None
    return UNTOLD
