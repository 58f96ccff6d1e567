"""Requests are taken apart as protobuf reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import MAX_PORTS
from headrace.server.services.oip.messages import MAX_DESCRIBED, MAX_FIELDS, take_apart
from headrace.wire.errors import InvalidArgument

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
words = st.text(max_size=5)
requests = st.builds(
    pb.ModelInferRequest,
    model_name=words,
    model_version=words,
    id=words,
    parameters=st.dictionaries(words, st.builds(pb.InferParameter, int64_param=st.integers(-3, 3)), max_size=2),
    inputs=st.lists(st.builds(Input, name=words, shape=st.lists(st.integers(-2, 1 << 40), max_size=3)), max_size=3),
    outputs=st.lists(st.builds(Output, name=words), max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=3),
)


@given(requests)
def test_the_pieces_are_what_protobuf_reads(request: pb.ModelInferRequest) -> None:
    pieces = take_apart(request.SerializeToString())
    assert pieces.error is None
    assert pieces.id.decode() == request.id
    assert [bytes(each) for each in pieces.raw] == list(request.raw_input_contents)
    described = pb.ModelInferRequest.FromString(pieces.described)
    expected = pb.ModelInferRequest()
    expected.CopyFrom(request)
    for field in ("id", "parameters", "raw_input_contents"):
        expected.ClearField(field)
    assert described == expected
    assert pb.ModelInferRequest.FromString(pieces.parameters).parameters == request.parameters


@given(st.lists(requests, min_size=2, max_size=3))
def test_fields_may_come_in_any_order(parts: list[pb.ModelInferRequest]) -> None:
    """Protobuf joins the fields of concatenated messages."""
    message = b"".join(part.SerializeToString() for part in parts)
    whole = pb.ModelInferRequest.FromString(message)
    pieces = take_apart(message)
    assert pieces.id.decode() == whole.id
    assert [bytes(each) for each in pieces.raw] == list(whole.raw_input_contents)
    described = pb.ModelInferRequest.FromString(pieces.described)
    assert (described.model_name, described.model_version) == (whole.model_name, whole.model_version)
    assert described.inputs == whole.inputs


@given(requests, st.integers(0, 400))
def test_a_message_that_stops_is_refused_or_read_as_protobuf_does(request: pb.ModelInferRequest, stop: int) -> None:
    message = request.SerializeToString()[:stop]
    pieces = take_apart(message)
    if pieces.error is None:
        raw = [bytes(each) for each in pieces.raw]
        assert raw == list(request.raw_input_contents)[: len(raw)]
    else:
        assert isinstance(pieces.error, InvalidArgument)
        assert "no ModelInferRequest" in pieces.error.message


@given(st.binary(max_size=40))
def test_any_bytes(message: bytes) -> None:
    pieces = take_apart(message)
    assert pieces.error is None or isinstance(pieces.error, InvalidArgument)


def test_fields_that_nobody_knows_are_skipped() -> None:
    strange = b"\x78\x96\x01" + b"\x81\x01" + bytes(8) + b"\x8d\x01" + bytes(4) + b"\x9a\x01\x02hi"
    pieces = take_apart(strange + pb.ModelInferRequest(model_name="m", id="1").SerializeToString() + strange)
    assert pieces.error is None
    assert (pieces.described, pieces.id) == (b"\x0a\x01m", b"1")


@pytest.mark.parametrize(("field", "message"), [("inputs", Input()), ("outputs", Output())])
def test_nothing_is_parsed_of_too_many(field: str, message: Input | Output) -> None:
    request = pb.ModelInferRequest(id="7", **{field: [message] * (MAX_PORTS + 1)})  # type: ignore[arg-type]
    pieces = take_apart(request.SerializeToString())
    assert pieces.id == b"7"
    assert pieces.described == b""
    assert pieces.error is not None
    assert pieces.error.message == f"a request has over {MAX_PORTS} {field}; no more are taken"


def test_the_number_of_unknown_fields_is_bounded() -> None:
    pieces = take_apart(b"\x78\x00" * (MAX_FIELDS + 1))
    assert pieces.error is not None
    assert str(MAX_FIELDS) in pieces.error.message


def test_so_is_what_is_no_tensor() -> None:
    request = pb.ModelInferRequest(id="7", model_name="m" * MAX_DESCRIBED)
    pieces = take_apart(request.SerializeToString())
    assert pieces.id == b"7"
    assert pieces.error is not None
    assert str(MAX_DESCRIBED) in pieces.error.message


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff" * 20,
        b"\x0b\x0c",
        b"\x09\x00",
        b"\x0f",
    ],
)
def test_what_is_no_message(message: bytes) -> None:
    error = take_apart(message).error
    assert error is not None
    assert "no ModelInferRequest" in error.message


def test_an_id_that_is_no_text_cannot_come_back() -> None:
    pieces = take_apart(b"\x1a\x02\xff\xfe")
    assert pieces.id == b""
    assert pieces.error is not None
    assert "UTF-8" in pieces.error.message
