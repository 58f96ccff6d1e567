"""The codes of errors within a stream, from the texts of other servers and from the parameter of ours."""

from __future__ import annotations

import pytest

from headrace.client.load.callers.oip_stream_errors import error_code
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Code, NotFound
from headrace.wire.oip_errors import CODE_PARAMETER


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[request id: 7] Exceeds maximum queue size", Code.UNAVAILABLE),
        ("Request timeout expired", Code.UNAVAILABLE),
        ("Request for unknown model: 'resnet' is not found", Code.NOT_FOUND),
        ("Request for unknown model: 'resnet' has no available versions", Code.UNAVAILABLE),
        ("Model with requested name is not found", Code.NOT_FOUND),
        ("unexpected inference input 'y' for model 'm'", Code.INVALID_ARGUMENT),
        ("unexpected shape for input 'x' for model 'm'. Expected [-1,16], got [1,3]", Code.INVALID_ARGUMENT),
        ("inference input data-type is 'FP32', but model 'm' expects 'INT32'", Code.INVALID_ARGUMENT),
        ("Invalid input shape - Expected: (-1,16); Actual: (1,3)", Code.INVALID_ARGUMENT),
        ("Something else went wrong", 2),
        ("", 2),
    ],
)
def test_a_text_that_a_server_is_known_for_has_its_code(text: str, code: int) -> None:
    assert error_code(pb.ModelStreamInferResponse(error_message=text)) == code


@pytest.mark.parametrize("code", list(Code)[1:])
def test_the_parameter_of_our_server_is_believed(code: Code) -> None:
    parameters = {CODE_PARAMETER: pb.InferParameter(int64_param=code)}
    response = pb.ModelInferResponse(id="1", parameters=parameters)
    text = NotFound("Request for unknown model: 'm' is not found").message
    assert error_code(pb.ModelStreamInferResponse(error_message=text, infer_response=response)) == code


def test_an_error_is_never_a_success() -> None:
    response = pb.ModelInferResponse(parameters={CODE_PARAMETER: pb.InferParameter(int64_param=0)})
    assert error_code(pb.ModelStreamInferResponse(error_message="?", infer_response=response)) == 2
