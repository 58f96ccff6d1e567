"""headrace.v1, unary: `Infer`."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.calling import Inputs, Request
from headrace.client.load.calling.unary import UnaryCaller
from headrace.client.load.calling.written import Written
from headrace.client.load.samples import Times
from headrace.client.protocol.unary_infer import infer_request, infer_result
from headrace.client.transport.channel import path


def callers(target: str, request: Request, streams: int, window: int, max_message_bytes: int) -> Sequence[UnaryCaller]:
    def write(inputs: Inputs) -> bytes:
        return infer_request(request.model, request.version, inputs, request.outputs, request.timeout, request.priority)

    def read(answer: bytes) -> Times:
        inferred = infer_result(answer, request.outputs)
        return Times(0.0, inferred.queued_us / 1e6, inferred.running_us / 1e6)

    written = Written(write)
    return [
        UnaryCaller(target, path("Infer"), written, read, request.timeout, window, max_message_bytes)
        for _ in range(streams)
    ]
