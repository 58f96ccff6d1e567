"""Parameters of requests."""

from __future__ import annotations

import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.wire.errors import InvalidArgument

P = pb.InferParameter


def test_options_that_headrace_knows_are_read() -> None:
    assert read_options({"timeout": P(int64_param=1500), "priority": P(uint64_param=1)}) == Options(0.0015, 9)


@pytest.mark.parametrize(("theirs", "ours"), [(0, 0), (1, 9), (2, 8), (9, 1), (10, 0), (1 << 63, 0)])
def test_priorities_begin_with_the_most_urgent(theirs: int, ours: int) -> None:
    assert read_options({"priority": P(uint64_param=theirs)}).priority == ours


def test_unknown_options_are_ignored() -> None:
    assert read_options({"color": P(string_param="red"), "headers": P(string_param="x"), "no": P()}) == NO_OPTIONS


@pytest.mark.parametrize("value", [P(int64_param=1), P(uint64_param=1), P(string_param="one")])
def test_sequences_are_recognised(value: P) -> None:
    assert read_options({"sequence_id": value, "sequence_end": P(bool_param=True)}).sequence == "sequence_id"


@pytest.mark.parametrize("value", [P(int64_param=0), P(uint64_param=0), P(string_param="")])
def test_an_empty_id_means_none(value: P) -> None:
    assert read_options({"sequence_id": value, "sequence_start": P(bool_param=False)}) == NO_OPTIONS


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("sequence_id", P(double_param=1), "parameter 'sequence_id' is double_param, it takes int64_param or uint64"),
        ("sequence_start", P(int64_param=1), "it takes bool_param"),
        ("timeout", P(string_param="1"), "parameter 'timeout' is string_param"),
        ("timeout", P(int64_param=-1), "parameter 'timeout' is -1, it must not be negative"),
        ("priority", P(), "parameter 'priority' is nothing"),
        ("triton_enable_empty_final_response", P(string_param="yes"), "it takes bool_param"),
        ("triton_none", P(bool_param=True), "there is no parameter 'triton_none'"),
    ],
)
def test_a_wrong_option_is_named(name: str, value: P, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_options({name: value})
