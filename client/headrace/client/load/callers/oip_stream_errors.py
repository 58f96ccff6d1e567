"""The codes of errors within a stream of the Open Inference Protocol, whose messages have only a text for them."""

from __future__ import annotations

import re

import grpc

from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Code
from headrace.wire.oip_errors import CODE_PARAMETER

UNKNOWN: int = grpc.StatusCode.UNKNOWN.value[0]
"""The code of an error that tells nothing about it."""

# What Triton and OpenVINO Model Server say, with the codes that their unary calls end with.
_TEXTS = (
    (r"exceeds maximum queue size|request timeout expired|has no available versions|is not at ready state|"
     r"server (is )?not ready", Code.UNAVAILABLE),
    (r"unknown model|model with requested (name|version) is not found", Code.NOT_FOUND),
    (r"unexpected (inference (in|out)put|shape for input|total byte size)|inference input data-type|"
     r"expected \d+ inputs but got|batch-size must be|byte size mismatch|invalid (input|number of inputs)|"
     r"missing input", Code.INVALID_ARGUMENT),
    (r"request (was|has been) cancelled", Code.CANCELLED),
)  # fmt: skip
_PATTERNS = tuple((re.compile(text, re.IGNORECASE), code) for text, code in _TEXTS)


def error_code(response: pb.ModelStreamInferResponse) -> int:
    """The code of an error: as Headrace's server gives it, else by its text, else UNKNOWN."""
    parameters = response.infer_response.parameters
    if CODE_PARAMETER in parameters:
        return int(parameters[CODE_PARAMETER].int64_param) or UNKNOWN
    message = response.error_message
    return next((int(code) for pattern, code in _PATTERNS if pattern.search(message)), UNKNOWN)
