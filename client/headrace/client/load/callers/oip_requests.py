"""Encodes requests of the Open Inference Protocol."""

from __future__ import annotations

from headrace.client.load.callers.caller import Inputs, Request
from headrace.client.load.callers.request_cache import RequestCache
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.durations import timeout_us
from headrace.wire.limits import MAX_PRIORITY
from headrace.wire.tensors import to_wire
from headrace.wire.varints import varint

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_ID = bytes([pb.ModelInferRequest.ID_FIELD_NUMBER << 3 | 2])


def oip_path(method: str) -> str:
    return f"/{_SERVICE}/{method}"


def request_cache(request: Request) -> RequestCache:
    """A cache of encoded requests without ids."""

    def encode(inputs: Inputs) -> bytes:
        message = pb.ModelInferRequest(model_name=request.model, model_version=request.version)
        if request.timeout is not None:
            message.parameters["timeout"].int64_param = timeout_us(request.timeout)
        if request.priority:
            # In this protocol 1 is the highest priority, larger numbers are less urgent, and 0 is the default.
            message.parameters["priority"].uint64_param = MAX_PRIORITY + 1 - request.priority
        for name, array in inputs.items():
            datatype, shape, data = to_wire(array)
            message.inputs.add(name=name, datatype=datatype.name, shape=shape)
            message.raw_input_contents.append(bytes(data))
        for name in request.outputs or ():
            message.outputs.add(name=name)
        return message.SerializeToString()

    return RequestCache(encode)


def with_id(request_id: str, message: bytes) -> bytes:
    """The request with an id. Protobuf merges messages that are concatenated."""
    text = request_id.encode()
    return b"".join((_ID, varint(len(text)), text, message))
