"""headrace.v1, unary: `Infer`."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.callers.caller import Inputs, Request
from headrace.client.load.callers.request_cache import RequestCache
from headrace.client.load.callers.unary import UnaryCaller
from headrace.client.load.record.samples import ServerTimes
from headrace.client.protocol.call_description import names_of, normalized
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.unary_infer import infer_request, infer_result
from headrace.client.transport.channel import path


def callers(settings: ConnectionSettings, request: Request, streams: int, window: int) -> Sequence[UnaryCaller]:
    names = names_of(request.model, request.version, request.outputs, ())

    def encode(inputs: Inputs) -> bytes:
        return infer_request(names, normalized(inputs)[0], request.timeout, request.priority)

    def read(answer: bytes) -> ServerTimes:
        inferred = infer_result(answer, request.outputs)
        return ServerTimes(0.0, inferred.queued_us / 1e6, inferred.running_us / 1e6)

    requests = RequestCache(encode)
    return [
        UnaryCaller(settings.beginning_at(number), path("Infer"), requests, read, request.timeout, window)
        for number in range(streams)
    ]
