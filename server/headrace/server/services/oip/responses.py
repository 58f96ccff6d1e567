"""Encodes results as ModelInferResponse messages.

Responses are assembled by hand around a description, which repeats from response to response (model and outputs). So
the bytes of outputs are copied only once, into the message, and a small response takes half the time that protobuf
takes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Plan
from headrace.server.core.engine_api import Tensor
from headrace.server.core.events import Done
from headrace.server.core.quotas import Quota
from headrace.server.core.specs import Port
from headrace.server.services.oip.classification import Classifier
from headrace.server.services.oip.description_cache import DescriptionCache
from headrace.server.services.oip.descriptions import MemoryRange, OutputOptions
from headrace.server.services.oip.region import Region
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError, InvalidArgument, quote
from headrace.wire.oip_errors import CODE_PARAMETER
from headrace.wire.tensors import Buffer
from headrace.wire.varints import varint

_BASE_BYTES, _PORT_BYTES, _DIMENSION_BYTES = 600, 200, 36
_ID, _RAW, _RESPONSE = b"\x1a", b"\x32", b"\x12"
_FINAL = pb.ModelInferResponse(parameters={"triton_final_response": pb.InferParameter(bool_param=True)})
FINAL = _FINAL.SerializeToString()
"""The parameter of the last response to a request, which here is always the only one."""


class ResponseWriter:
    """Encodes responses, and caches their descriptions."""

    def __init__(self, caches: Quota) -> None:
        self._descriptions: DescriptionCache[Hashable, bytes] = DescriptionCache(caches)

    def write(self, done: Done, request_id: bytes, outputs: Sequence[OutputOptions]) -> list[Buffer]:
        """Encode a response, and write outputs to shared memory. Raises the error to send to the client instead.

        Returns the parts of the response, among them the bytes of outputs as they are: they are copied once, when
        `unary_response` or `stream_response` joins the parts.
        """
        plan = done.plan
        if outputs:
            description, contents = self._with_options(plan, done.sent, outputs)
        else:
            description, contents = self._plain(plan, done.sent), [tensor.read() for tensor in done.sent]
        parts: list[Buffer] = [description]
        if request_id:
            parts += (_ID, varint(len(request_id)), request_id)
        for data in contents:
            parts += (_RAW, varint(len(data)), data)
        return parts

    def _plain(self, plan: Plan, sent: Sequence[Tensor]) -> bytes:
        key = (plan, *[tensor.shape for tensor in sent])
        description = self._descriptions.get(key)
        if description is None:
            response = _response(plan)
            for port, tensor in zip(plan.outputs, sent, strict=True):
                _add_output(response, port, tensor.datatype, tensor.shape)
            description = response.SerializeToString()
            # The key keeps the plan in memory.
            ports = len(plan.inline) + len(plan.outputs)
            dimensions = sum([len(tensor.shape) for tensor in sent])
            nbytes = _BASE_BYTES + _PORT_BYTES * ports + _DIMENSION_BYTES * dimensions + len(description)
            self._descriptions.put(key, description, nbytes)
        return description

    def _with_options(
        self, plan: Plan, sent: Sequence[Tensor], outputs: Sequence[OutputOptions]
    ) -> tuple[bytes, list[Buffer]]:
        response, contents, classifier = _response(plan), list[Buffer](), Classifier()
        for port, tensor, options in zip(plan.outputs, sent, outputs, strict=True):
            datatype, shape, data = tensor.datatype, tensor.shape, tensor.read()
            if options.classes:
                try:
                    indices = _indices(plan, sent, port)
                    labels = plan.spec.labels_of(port)
                    shape, data = classifier.classify(datatype, shape, data, options.classes, labels, indices)
                except InvalidArgument as error:
                    raise InvalidArgument(f"output {quote(port.name)}: {error.message}") from None
                datatype = Datatype.BYTES
            output = _add_output(response, port, datatype, shape)
            if options.memory is not None:
                assert options.region is not None  # acquired when the request was read
                _write_to_region(port, options.memory, options.region, data)
                output.parameters["shared_memory_region"].string_param = options.memory.region
                output.parameters["shared_memory_offset"].int64_param = options.memory.offset
                output.parameters["shared_memory_byte_size"].int64_param = len(data)
                data = b""
            contents.append(data)
        return response.SerializeToString(), contents


def _indices(plan: Plan, sent: Sequence[Tensor], output: Port) -> Buffer | None:
    """The indices of the elements of an output of the largest ones; None for one of all. Raises InvalidArgument."""
    index = plan.spec.indices.get(output.index)
    if index is None:
        return None
    for port, tensor in zip(plan.outputs, sent, strict=True):
        if port.index == index:
            return tensor.read()
    name = quote(plan.spec.outputs[index].name)
    raise InvalidArgument(f"it has the largest elements, whose indices are not known; request output {name}, too")


def _write_to_region(port: Port, memory: MemoryRange, region: Region, data: Buffer) -> None:
    if len(data) > memory.nbytes:
        raise InvalidArgument(
            f"output {quote(port.name)} has {len(data)} bytes, but its shared_memory_byte_size is {memory.nbytes}"
        )
    region.write(memory.offset, data)


def unary_response(parts: Sequence[Buffer]) -> bytes:
    """What `ResponseWriter.write` returns as the response of a call."""
    return b"".join(parts)


def stream_response(parts: Sequence[Buffer]) -> bytes:
    """What `ResponseWriter.write` returns as a message of a stream."""
    return b"".join((_RESPONSE, varint(len(FINAL) + sum(map(len, parts))), FINAL, *parts))


def stream_error(error: HeadraceError, request_id: bytes) -> bytes:
    """Encode an error as a message of a stream. The protocol has a place for its text; a parameter has its code."""
    message = pb.ModelStreamInferResponse(error_message=error.message).SerializeToString()
    code = pb.InferParameter(int64_param=error.code)
    response = pb.ModelInferResponse(parameters={CODE_PARAMETER: code}).SerializeToString()
    if request_id:
        response += _ID + varint(len(request_id)) + request_id
    return message + _RESPONSE + varint(len(response)) + response


def _response(plan: Plan) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(model_name=plan.spec.name, model_version=plan.spec.version)


def _add_output(
    response: pb.ModelInferResponse, port: Port, datatype: Datatype, shape: Sequence[int]
) -> pb.ModelInferResponse.InferOutputTensor:
    return response.outputs.add(name=port.name, datatype=datatype.name, shape=shape)
