"""Requests of the Open Inference Protocol as bytes.

As with all modules named oip_*: only for processes in which no tritonclient is, whose stubs have the same symbols.
"""

from __future__ import annotations

from headrace.client.load.calling import Inputs, Request
from headrace.client.load.calling.written import Written
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.durations import timeout_us
from headrace.wire.tensors import to_wire
from headrace.wire.varints import varint

MOST_URGENT = 9
"""What this package calls the priority that is 1 there, where smaller numbers are sooner and 0 is none."""

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_ID = bytes([pb.ModelInferRequest.ID_FIELD_NUMBER << 3 | 2])


def oip_path(method: str) -> str:
    return f"/{_SERVICE}/{method}"


def writer(request: Request) -> Written:
    """Makes requests without an id."""

    def write(inputs: Inputs) -> bytes:
        message = pb.ModelInferRequest(model_name=request.model, model_version=request.version)
        if request.timeout is not None:
            message.parameters["timeout"].int64_param = timeout_us(request.timeout)
        if request.priority:
            message.parameters["priority"].uint64_param = MOST_URGENT + 1 - request.priority
        for name, array in inputs.items():
            datatype, shape, data = to_wire(array)
            message.inputs.add(name=name, datatype=datatype.name, shape=shape)
            message.raw_input_contents.append(bytes(data))
        for name in request.outputs or ():
            message.outputs.add(name=name)
        return message.SerializeToString()

    return Written(write)


def with_id(request_id: str, message: bytes) -> bytes:
    """The request with an id. Protobuf merges what is written one behind the other."""
    text = request_id.encode()
    return b"".join((_ID, varint(len(text)), text, message))
