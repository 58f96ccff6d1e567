"""Requests are split as protobuf would read them, whether they are parsed or walked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.contents_counts import MAX_FIELDS, MAX_INTEGER_BYTES
from headrace.server.services.oip.messages import (
    MAX_ID_BYTES,
    MAX_NON_TENSOR_BYTES,
    MAX_PARSED_BYTES,
    RequestParts,
    named_model,
    split_request,
)
from headrace.wire.errors import InvalidArgument
from headrace.wire.frames import MAX_OVERHEAD
from headrace.wire.limits import MAX_PORTS, MAX_STRINGS
from headrace.wire.varints import varint
from tests.own_time import takes_at_most

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
Split = Callable[[bytes], RequestParts]


def walk(message: bytes) -> RequestParts:
    """Split a message that an unknown field in front makes too large to be parsed."""
    padding = MAX_PARSED_BYTES
    return split_request(b"\x9a\x01" + varint(padding) + bytes(padding) + message)


either_way = pytest.mark.parametrize("split", [split_request, walk], ids=["parsed", "walked"])
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


@either_way
@given(requests)
def test_the_parts_are_those_that_protobuf_reads(split: Split, request: pb.ModelInferRequest) -> None:
    parts = split(request.SerializeToString())
    assert parts.error is None
    assert parts.id.decode() == request.id
    assert [bytes(each) for each in parts.raw] == list(request.raw_input_contents)
    description = pb.ModelInferRequest.FromString(parts.description)
    expected = pb.ModelInferRequest()
    expected.CopyFrom(request)
    for field in ("id", "parameters", "raw_input_contents"):
        expected.ClearField(field)
    assert description == expected
    assert dict(parts.parameters) == dict(request.parameters)


@either_way
@given(st.lists(requests, min_size=2, max_size=3))
def test_fields_may_come_in_any_order(split: Split, requests: list[pb.ModelInferRequest]) -> None:
    """Protobuf joins the fields of concatenated messages."""
    message = b"".join(each.SerializeToString() for each in requests)
    whole = pb.ModelInferRequest.FromString(message)
    parts = split(message)
    assert parts.id.decode() == whole.id
    assert [bytes(each) for each in parts.raw] == list(whole.raw_input_contents)
    description = pb.ModelInferRequest.FromString(parts.description)
    assert (description.model_name, description.model_version) == (whole.model_name, whole.model_version)
    assert description.inputs == whole.inputs


@either_way
@given(requests, st.integers(0, 400))
def test_a_message_that_is_cut_off_is_refused_or_read_in_part(
    split: Split, request: pb.ModelInferRequest, stop: int
) -> None:
    message = request.SerializeToString()[:stop]
    parts = split(message)
    if parts.error is None:
        raw = [bytes(each) for each in parts.raw]
        assert raw == list(request.raw_input_contents)[: len(raw)]
    else:
        assert isinstance(parts.error, InvalidArgument)
        assert "not a valid ModelInferRequest" in parts.error.message


@either_way
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(split: Split, message: bytes) -> None:
    parts = split(message)
    assert parts.error is None or isinstance(parts.error, InvalidArgument)
    name, version = named_model(parts)
    assert parts.description or not (name or version)


GROUP = b"\x0b\x0c"


def test_the_model_of_a_message_with_a_group_is_known_for_its_errors() -> None:
    known = pb.ModelInferRequest(model_name="m", model_version="1").SerializeToString()
    assert named_model(split_request(known + GROUP)) == ("m", "1")
    assert pb.ModelInferRequest.FromString(split_request(GROUP + known).description).model_name == "m"


@either_way
def test_unknown_fields_are_skipped(split: Split) -> None:
    strange = b"\x78\x96\x01" + b"\x81\x01" + bytes(8) + b"\x8d\x01" + bytes(4) + b"\x9a\x01\x02hi"
    parts = split(strange + pb.ModelInferRequest(model_name="m", id="1").SerializeToString() + strange)
    assert parts.error is None
    assert (parts.id, pb.ModelInferRequest.FromString(parts.description).model_name) == (b"1", "m")


@either_way
@pytest.mark.parametrize(("field", "message"), [("inputs", Input()), ("outputs", Output())])
def test_too_many_inputs_or_outputs_are_refused(split: Split, field: str, message: Input | Output) -> None:
    request = pb.ModelInferRequest(id="7", **{field: [message] * (MAX_PORTS + 1)})  # type: ignore[arg-type]
    parts = split(request.SerializeToString())
    assert parts.id == b"7"
    assert parts.description == b""
    assert parts.error is not None
    assert parts.error.message == f"a request has more than {MAX_PORTS} {field}"


def test_the_number_of_unknown_fields_is_bounded() -> None:
    parts = walk(b"\x78\x00" * (MAX_FIELDS + 1))
    assert parts.error is not None
    assert str(MAX_FIELDS) in parts.error.message


def test_the_bytes_besides_tensors_are_bounded() -> None:
    request = pb.ModelInferRequest(id="7", model_name="m" * MAX_NON_TENSOR_BYTES)
    parts = split_request(request.SerializeToString())
    assert parts.id == b"7"
    assert parts.error is not None
    assert str(MAX_NON_TENSOR_BYTES) in parts.error.message


@either_way
def test_the_id_is_bounded(split: Split) -> None:
    assert split(pb.ModelInferRequest(id="i" * MAX_ID_BYTES).SerializeToString()).id == b"i" * MAX_ID_BYTES
    parts = split(pb.ModelInferRequest(id="i" * (MAX_ID_BYTES + 1)).SerializeToString())
    assert (parts.id, parts.description) == (b"", b"")
    assert parts.error is not None
    assert str(MAX_ID_BYTES) in parts.error.message


def many(field: bytes, count: int) -> bytes:
    """An input that holds a field many times."""
    return b"\x2a" + varint(len(field) * count) + field * count


def contents(field: bytes, count: int) -> bytes:
    """An input whose contents hold a field many times."""
    inner = field * count
    return b"\x2a" + varint(len(inner) + 1 + len(varint(len(inner)))) + b"\x2a" + varint(len(inner)) + inner


EMPTY_PARAMETER, EMPTY_STRING, ONE_INT = b"\x22\x00", b"\x42\x00", b"\x10\x01"
LARGE: dict[str, tuple[bytes, str]] = {
    "nested parameters": (many(EMPTY_PARAMETER, 500_000), f"more than {MAX_FIELDS} fields"),
    "parameters of an output": (b"\x32" + many(EMPTY_PARAMETER, 500_000)[1:], f"more than {MAX_FIELDS} fields"),
    "numbers that are not packed": (contents(ONE_INT, 500_000), f"more than {MAX_FIELDS} fields"),
    "strings": (contents(EMPTY_STRING, 500_000), f"more than {MAX_STRINGS} elements of BYTES"),
    "packed integers": (
        contents(b"\x12" + varint(1 << 21) + bytes(1 << 21), 3),
        f"more than {MAX_INTEGER_BYTES} bytes of integers",
    ),
    "floats": (contents(b"\x32" + varint(1 << 23) + bytes(1 << 23), 2)[:-4], "not a valid"),
    "a shape": (many(b"\x1a" + varint(MAX_OVERHEAD) + bytes(MAX_OVERHEAD), 1), f"the limit is {MAX_OVERHEAD}"),
    "a name of a parameter": (b"\x22" + varint(MAX_OVERHEAD) + bytes(MAX_OVERHEAD), f"the limit is {MAX_OVERHEAD}"),
    "contents that are cut off": (contents((b"\x12\x0e" + bytes(14)) * 4000 + b"\x12\x0e", 1), "not a valid"),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_a_large_description_holds_is_counted_before_it_is_parsed(what: str) -> None:
    message, expected = LARGE[what]
    with takes_at_most(0.2):
        error = split_request(b"\x1a\x017" + message).error
    assert error is not None
    assert expected in error.message


def test_large_typed_contents_are_accepted() -> None:
    floats, integers = (bytes(size) for size in (8 << 20, MAX_INTEGER_BYTES))
    message = contents(b"\x32" + varint(len(floats)) + floats, 1) + contents(EMPTY_STRING, MAX_STRINGS)
    message += contents(b"\x12" + varint(len(integers)) + integers, 1)
    parts = split_request(message)
    assert parts.error is None
    assert parts.description == message


@either_way
@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff" * 20,
        b"\x09\x00",
        b"\x0f",
    ],
)
def test_bytes_that_are_not_a_message_are_refused(split: Split, message: bytes) -> None:
    error = split(message).error
    assert error is not None
    assert "not a valid ModelInferRequest" in error.message


@either_way
def test_an_id_that_is_not_utf_8_is_refused(split: Split) -> None:
    parts = split(b"\x1a\x02\xff\xfe")
    assert parts.id == b""
    assert parts.error is not None
    assert "UTF-8" in parts.error.message


def test_a_large_message_with_a_group_is_refused() -> None:
    """Groups are obsolete; in small messages protobuf skips them."""
    error = walk(GROUP).error
    assert error is not None
    assert "not a valid ModelInferRequest" in error.message
