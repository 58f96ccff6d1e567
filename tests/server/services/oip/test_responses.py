"""Responses that are encoded by hand, decoded by protobuf."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Call, Inline, bind
from headrace.server.core.events import Done
from headrace.server.core.quotas import Quota
from headrace.server.engine.tensors import OutputTensor
from headrace.server.services.oip.descriptions import PLAIN_OUTPUT, OutputOptions
from headrace.server.services.oip.responses import ResponseWriter, stream_error, stream_response, unary_response
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import Code, InvalidArgument
from headrace.wire.tensors import decode_bytes
from tests.server.core.model_specs import grow

PLAN = bind(Call("grow", "", (Inline("x", Datatype.FP32, (4,)),), ("y",), False, ()), grow())


def done(*values: float) -> Done:
    data = np.array(values, "<f4").tobytes()
    return Done(1, PLAN, [OutputTensor(Datatype.FP32, (len(values),), data)], [], len(data), 0, 0, 0, 0)


def encoded(event: Done, request_id: bytes, outputs: Sequence[OutputOptions]) -> pb.ModelInferResponse:
    parts = ResponseWriter(Quota(1 << 20)).write(event, request_id, outputs)
    return pb.ModelInferResponse.FromString(unary_response(parts))


@given(st.text(max_size=200), st.lists(st.floats(width=32, allow_nan=False), max_size=300))
def test_a_response_has_model_id_and_outputs(request_id: str, values: list[float]) -> None:
    writer = ResponseWriter(Quota(1 << 20))
    for _ in range(2):
        parts = writer.write(done(*values), request_id.encode(), ())
        response = pb.ModelInferResponse.FromString(unary_response(parts))
        assert (response.model_name, response.model_version, response.id) == ("grow", "1", request_id)
        (output,) = response.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [len(values)])
        assert not output.HasField("contents")
        (raw,) = response.raw_output_contents
        assert np.frombuffer(raw, "<f4").tolist() == values
        streamed = pb.ModelStreamInferResponse.FromString(stream_response(parts))
        assert not streamed.error_message
        assert streamed.infer_response.parameters.pop("triton_final_response").bool_param
        assert streamed.infer_response == response


@given(st.text(max_size=200), st.text(min_size=1, max_size=200))
def test_an_error_in_a_stream_has_message_code_and_id(request_id: str, message: str) -> None:
    read = pb.ModelStreamInferResponse.FromString(stream_error(InvalidArgument(message), request_id.encode()))
    assert read.error_message == message
    assert read.infer_response.parameters.pop("grpc_status").int64_param == Code.INVALID_ARGUMENT
    assert read.infer_response == pb.ModelInferResponse(id=request_id)
    assert read.HasField("infer_response")


def test_an_output_can_be_replaced_by_its_classes() -> None:
    response = encoded(done(0.5, 2.5, 1.0), b"", [OutputOptions(2, None)])
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "BYTES", [2])
    assert decode_bytes(response.raw_output_contents[0], (2,)).tolist() == [b"2.500000:1", b"1.000000:2"]


def test_plain_output_options_change_nothing() -> None:
    assert encoded(done(1.0), b"7", [PLAIN_OUTPUT]) == encoded(done(1.0), b"7", ())


def test_the_bytes_of_outputs_are_not_copied_before_the_message_is_joined() -> None:
    event = done(1.0, 2.0)
    parts = ResponseWriter(Quota(1 << 20)).write(event, b"7", ())
    assert parts[-1] is event.sent[0].read()
