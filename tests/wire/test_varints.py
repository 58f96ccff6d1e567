"""Varints are what protobuf writes and reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.v1 import inference_pb2 as pb
from headrace.wire.varints import decode_varints, read_varint, varint

WAITING = bytes((pb.Event.DESCRIPTOR.fields_by_name["waiting_us"].number << 3,))
UINT64 = st.integers(0, 2**64 - 1)


@given(st.integers(1, 2**64 - 1))
def test_an_integer_is_written_as_protobuf_writes_it(value: int) -> None:
    assert WAITING + varint(value) == pb.Event(waiting_us=value).SerializeToString()


@given(UINT64, st.binary(max_size=3), st.binary(max_size=3))
def test_an_integer_is_read_where_it_stands(value: int, before: bytes, after: bytes) -> None:
    written = varint(value)
    message = before + written + after
    assert read_varint(message, len(before)) == (value, len(before) + len(written))


@given(UINT64)
def test_a_truncated_integer_is_an_error(value: int) -> None:
    with pytest.raises(IndexError):
        read_varint(varint(value)[:-1], 0)


def test_an_integer_of_more_than_ten_bytes_is_an_error() -> None:
    with pytest.raises(IndexError, match="the varint at byte 1 takes more than ten bytes"):
        read_varint(b"\0" + b"\x80" * 10 + b"\1", 1)


@given(st.lists(UINT64 | st.integers(0, 300), max_size=40))
def test_many_integers_are_decoded_at_once(values: list[int]) -> None:
    assert decode_varints(b"".join(map(varint, values))).tolist() == values


def test_integers_across_the_chunks_of_decoding_are_decoded() -> None:
    values = [2**63 + number for number in range(60_000)]
    assert decode_varints(b"".join(map(varint, values))).tolist() == values
