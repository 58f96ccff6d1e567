"""From the core's terms to a ModelInferResponse.

Written by hand, around what repeats: the bytes of outputs are copied once, into the message.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Plan
from headrace.server.core.engine_api import Tensor
from headrace.server.core.events import Done
from headrace.server.core.specs import Port
from headrace.server.services.oip.classification import classify
from headrace.server.services.oip.requests import OutputOptions, Place
from headrace.server.services.oip.shared_memory import Region
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError, InvalidArgument, quote
from headrace.wire.lru import LruCache
from headrace.wire.tensors import Buffer
from headrace.wire.varints import varint

MAX_DESCRIPTIONS = 1024
"""Descriptions of outputs that are cached."""
_ID, _RAW, _RESPONSE = b"\x1a", b"\x32", b"\x12"
_FINAL = pb.ModelInferResponse(parameters={"triton_final_response": pb.InferParameter(bool_param=True)})
FINAL = _FINAL.SerializeToString()
"""Of the last response to a request, which here is the only one."""


class Responses:
    """Writes responses, and caches what repeats."""

    def __init__(self) -> None:
        self._descriptions: LruCache[Hashable, bytes] = LruCache(MAX_DESCRIPTIONS)

    def write(self, done: Done, request_id: bytes, outputs: Sequence[OutputOptions]) -> bytes:
        """Raises what the client is to be told instead."""
        plan = done.plan
        if outputs:
            described, contents = self._with_options(plan, done.sent, outputs)
        else:
            described, contents = self._plain(plan, done.sent), [tensor.read() for tensor in done.sent]
        parts: list[Buffer] = [described]
        if request_id:
            parts += (_ID, varint(len(request_id)), request_id)
        for data in contents:
            parts += (_RAW, varint(len(data)), data)
        return b"".join(parts)

    def _plain(self, plan: Plan, sent: Sequence[Tensor]) -> bytes:
        key = (plan, *[tensor.shape for tensor in sent])
        described = self._descriptions.get(key)
        if described is None:
            response = _response(plan)
            for port, tensor in zip(plan.outputs, sent, strict=True):
                _describe(response, port, tensor.datatype, tensor.shape)
            described = response.SerializeToString()
            self._descriptions.put(key, described)
        return described

    def _with_options(
        self, plan: Plan, sent: Sequence[Tensor], outputs: Sequence[OutputOptions]
    ) -> tuple[bytes, list[Buffer]]:
        response, contents = _response(plan), list[Buffer]()
        for port, tensor, wanted in zip(plan.outputs, sent, outputs, strict=True):
            datatype, shape, data = tensor.datatype, tensor.shape, tensor.read()
            if wanted.top:
                try:
                    shape, data = classify(datatype, shape, data, wanted.top, plan.spec.labels)
                except InvalidArgument as error:
                    raise InvalidArgument(f"output {quote(port.name)}: {error.message}") from None
                datatype = Datatype.BYTES
            output = _describe(response, port, datatype, shape)
            if wanted.place is not None:
                assert wanted.region is not None  # or the request was refused
                _put(port, wanted.place, wanted.region, data)
                output.parameters["shared_memory_region"].string_param = wanted.place.region
                output.parameters["shared_memory_offset"].int64_param = wanted.place.offset
                output.parameters["shared_memory_byte_size"].int64_param = len(data)
                data = b""
            contents.append(data)
        return response.SerializeToString(), contents


def _put(port: Port, place: Place, region: Region, data: Buffer) -> None:
    if len(data) > place.nbytes:
        raise InvalidArgument(
            f"output {quote(port.name)} has {len(data)} bytes, its place in shared memory {place.nbytes}"
        )
    region.write(place.offset, data)


def in_stream(response: bytes) -> bytes:
    """A response as a message of a stream."""
    return b"".join((_RESPONSE, varint(len(FINAL) + len(response)), FINAL, response))


def failure(error: HeadraceError, request_id: bytes) -> bytes:
    """An error as a message of a stream."""
    named = pb.ModelStreamInferResponse(error_message=error.message).SerializeToString()
    inner = _ID + varint(len(request_id)) + request_id if request_id else b""
    return named + _RESPONSE + varint(len(inner)) + inner


def _response(plan: Plan) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(model_name=plan.spec.name, model_version=plan.spec.version)


def _describe(
    response: pb.ModelInferResponse, port: Port, datatype: Datatype, shape: Sequence[int]
) -> pb.ModelInferResponse.InferOutputTensor:
    return response.outputs.add(name=port.name, datatype=datatype.name, shape=shape)
