"""Bad input is answered with a sentence that names the culprit, and harms no other request."""

from __future__ import annotations

import re
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from tests.e2e.serving import Served
from tests.triton.bad_requests import BAD
from tests.triton.messages import Input, check_sentence, request
from tests.triton.streams import RawStream

GOOD = request("scale", Input("x", [2], np.array([1, 2], np.float32).tobytes()), id="good")
ANSWER = np.array([3, 5], np.float32).tobytes()


@pytest.fixture(scope="module")
def infer(served: Served) -> Iterator[grpc.UnaryUnaryMultiCallable[bytes, ModelInferResponse]]:
    """ModelInfer without a serialiser: bytes that are not a message can be sent, too."""
    with grpc.insecure_channel(served.address) as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", response_deserializer=ModelInferResponse.FromString
        )


@pytest.fixture(scope="module")
def stream(served: Served) -> Iterator[RawStream]:
    with RawStream(served.address) as stream:
        yield stream


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_of_a_call_is_an_error(
    infer: grpc.UnaryUnaryMultiCallable[bytes, ModelInferResponse], wrong: str
) -> None:
    bad = BAD[wrong]
    with pytest.raises(grpc.RpcError) as refused:
        infer(_written(bad.request), timeout=30)
    message = refused.value.details() or ""
    assert refused.value.code().name in bad.statuses, message
    check_sentence(message)
    assert re.search(bad.named, message)
    assert infer(GOOD.SerializeToString(), timeout=30).raw_output_contents == [ANSWER]


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_in_a_stream_is_an_error_in_band(stream: RawStream, wrong: str) -> None:
    """On the one stream of all these tests."""
    bad = BAD[wrong]
    if isinstance(bad.request, ModelInferRequest):
        bad.request.id = wrong
    stream.send(bad.request, GOOD)
    refused, answered = stream.receive(), stream.receive()
    check_sentence(refused.error_message)
    assert re.search(bad.named, refused.error_message)
    assert refused.infer_response.id == (wrong if isinstance(bad.request, ModelInferRequest) else "")
    assert not refused.infer_response.outputs
    assert not answered.error_message
    assert answered.infer_response.id == "good"
    assert answered.infer_response.raw_output_contents == [ANSWER]


def _written(message: ModelInferRequest | bytes) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())
